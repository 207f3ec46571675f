"""What is compared: records of topics, dead letters, rows of the table. And the file in which they are sorted."""
import hashlib
import sqlite3
import struct
from dataclasses import dataclass, field

NULL = bytes(8)
STAMP_OF_NULL = -(2**63)


@dataclass
class Record:
    """A Kafka record. The timestamp is in milliseconds since 1970, or -1."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list = field(default_factory=list)  # of (name, bytes or None)


@dataclass
class Topic:
    """The name, the id if it is known, the first and the end offset of each partition, and a reader of one."""

    name: str
    id: str | None
    ranges: dict
    records: object  # partition -> iterator of records, in order


@dataclass
class Table:
    """Names the columns outside the primary key that hold an instant as text, and iterates over rows.

    A row has the values of the primary key, of the other fields in their order, and of `ingested_at`; then the write
    timestamps of all columns outside the primary key. Values are CQL bytes or None.
    """

    text_instants: set
    rows: object


@dataclass
class Letter:
    """A dead letter: what it names, and digests of what it has."""

    place: str
    partition: int
    offset: int
    reason: str
    omitted: str
    stamp: int
    key: bytes
    value: bytes
    headers: bytes


# The headers that the streamer adds behind those of the record.
LETTER_HEADERS = {
    "dlq-reason", "dlq-error", "dlq-topic", "dlq-partition", "dlq-topic-id", "dlq-offset", "dlq-write-timestamp",
    "dlq-at", "dlq-omitted",
}  # fmt: skip


def read_letter(record):
    """Returns the dead letter, its topic and the topic's id. Raises ValueError if it is none."""
    added, rest = {}, list(record.headers)
    while rest and rest[-1][0] in LETTER_HEADERS and rest[-1][0] not in added:
        name, value = rest.pop()
        added[name] = (value or b"").decode("utf-8", "replace")
    missing = LETTER_HEADERS - added.keys() - {"dlq-omitted"}
    if missing:
        raise ValueError(f"lacks the header {min(missing)}")
    letter = Letter(
        f"{record.partition}:{record.offset}",
        int(added["dlq-partition"]),
        int(added["dlq-offset"]),
        added["dlq-reason"],
        added.get("dlq-omitted", ""),
        int(added["dlq-write-timestamp"]),
        digest(record.key),
        digest(record.value),
        digest_headers(rest),
    )
    return letter, added["dlq-topic"], added["dlq-topic-id"]


def digest(value):
    """Eight bytes that identify a value; all zero for None."""
    return NULL if value is None else hashlib.blake2b(value, digest_size=8).digest()


def digest_headers(headers):
    """Identifies headers with their order."""
    parts = [digest(name.encode()) + digest(value) for name, value in headers]
    return digest(b"".join(parts))


def join(values):
    """One text of bytes for several values."""
    return b"".join(struct.pack(">i", len(value)) + value for value in values)


def split(joined):
    """The values of `join`."""
    values, at = [], 0
    while at < len(joined):
        (length,) = struct.unpack_from(">i", joined, at)
        values.append(joined[at + 4 : at + 4 + length])
        at += 4 + length
    return values


class Spool:
    """Sorts more than the memory holds: a temporary SQLite file, which ends with the process."""

    SCHEMA = """
        PRAGMA journal_mode = OFF;
        PRAGMA synchronous = OFF;
        PRAGMA cache_size = -16384; -- KiB, also of each sort
        CREATE TABLE letters (place, partition, offset, reason, omitted, stamp, key, value, headers);
        CREATE TABLE events (key, row, stamp, partition, offset, is_exact, is_letter, expires, columns);
        CREATE TABLE rows (key, row, columns, stamps);
    """
    BATCH = 5_000

    def __init__(self):
        # The empty name is a private file, of which SQLite keeps no more than the cache in memory.
        self.db = sqlite3.connect("", isolation_level=None)
        self.db.executescript(self.SCHEMA)
        self.db.execute("BEGIN")
        self.waiting = {}

    def add(self, table, *values):
        waiting = self.waiting.setdefault(table, [])
        waiting.append(values)
        if len(waiting) >= self.BATCH:
            self.flush(table)

    def flush(self, table):
        waiting = self.waiting.pop(table, [])
        if waiting:
            marks = ",".join("?" * len(waiting[0]))
            self.db.executemany(f"INSERT INTO {table} VALUES ({marks})", waiting)

    def sorted(self, table, order):
        """Iterates over a table. Nothing may be added to it meanwhile."""
        self.flush(table)
        return iter(self.db.execute(f"SELECT * FROM {table} ORDER BY {order}"))

    def close(self):
        self.db.close()
