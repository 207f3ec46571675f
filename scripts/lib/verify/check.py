"""Compares topic, dead letters and table. Pure: it reads what it is given, and knows no server.

Each record must be a row, be superseded by a later record of its primary key or deletion of its key, or be a dead
letter. Each row must be the last record of its primary key in every column and write timestamp. Each dead letter must
be a record that cannot be a row.
"""
import math
import struct
from dataclasses import astuple, dataclass, field
from itertools import groupby
from operator import itemgetter

from evidence import NULL, STAMP_OF_NULL, Letter, Spool, digest, digest_headers, join, read_letter, split
from values import LATEST_MS, Invalid, instant_text, key_text, read_key, read_record

INGESTED_AT = "ingested_at"
# A reader caps timestamps further ahead of its clock.
MAX_AHEAD_MS = 3_600_000
# A row's life is rounded to seconds, and counts from the server's clock.
EXPIRY_TOLERANCE_MS = 60_000
# Reasons for which a valid record becomes a dead letter.
REFUSED = "refused_by_cassandra"
REJECTED_TOMBSTONE = "tombstone"


@dataclass
class Settings:
    """The streamer's settings that determine rows, and the time of the check in milliseconds since 1970."""

    now: int
    row_ttl_ms: int | None = None


@dataclass
class Report:
    """Counts, and the violations of which the first ones are kept as sentences without values."""

    records: int = 0
    rows: int = 0
    dead_letters: int = 0
    violations: int = 0
    kept: list = field(default_factory=list)
    keep: int = 20

    def violation(self, text):
        self.violations += 1
        if len(self.kept) < self.keep:
            self.kept.append(text)


def verify(contract, topic, letters, table, settings, report):
    """Adds what it finds to the report, and returns it."""
    spool = Spool()
    try:
        letters_begin = spool_letters(topic, letters, spool, report)
        log_begins = LogReader(contract, topic, table.text_instants, settings, spool, report, letters_begin).read()
        spool_rows(contract, table, spool, report)
        RowComparison(contract, settings, report, log_begins).compare(
            spool.sorted("events", "key, stamp, offset"), spool.sorted("rows", "key")
        )
    finally:
        spool.close()
    return report


def begins(topic, first_of):
    """The first value of what remains after records were deleted from a topic's start; -inf if none were.

    `first_of` has the first value of each partition that has a record.
    """
    truncated = [partition for partition, (low, _) in topic.ranges.items() if low > 0]
    return max((first_of.get(partition, math.inf) for partition in truncated), default=-math.inf)


def spool_letters(topic, letters, spool, report):
    """Adds the dead letters of the topic. Returns the time in ms before which they may have been deleted."""
    first = {}
    for partition in sorted(letters.ranges):
        for record in letters.records(partition):
            first.setdefault(partition, record.timestamp)
            report.dead_letters += 1
            place = f"dead letter {record.partition}:{record.offset}"
            try:
                letter, name, topic_id = read_letter(record)
            except ValueError as error:
                report.violation(f"{place} is not one: {error}")
                continue
            if name != topic.name:
                report.violation(f"{place} names another topic")
            elif topic.id in (None, topic_id):
                spool.add("letters", *astuple(letter))
    return begins(letters, first)


class LogReader:
    """Reads the topic once, next to the sorted dead letters, and adds an event for each row and deletion."""

    def __init__(self, contract, topic, text_instants, settings, spool, report, letters_begin):
        self.contract, self.topic, self.settings = contract, topic, settings
        self.spool, self.report, self.letters_begin = spool, report, letters_begin
        # Of each column: the slot of its field, and whether it is an instant as text.
        self.keys = [(slot(contract, name), name in text_instants) for name in contract.primary_key]
        self.columns = [(slot(contract, name), name in text_instants) for name in column_names(contract)[:-1]]
        self.letters = (Letter(*values) for values in spool.sorted("letters", "partition, offset"))
        self.letter = next(self.letters, None)

    def read(self):
        """Returns the write timestamp before which records may have been deleted."""
        first = {}
        for partition in sorted(self.topic.ranges):
            low, high = self.topic.ranges[partition]
            self.leave_letters((partition, low), None)
            stamp, is_exact = -1, low == 0
            for record in self.topic.records(partition):
                self.report.records += 1
                # Depends on the reader's clock, and so does every later one of the partition.
                is_exact = is_exact and record.timestamp <= self.settings.now + MAX_AHEAD_MS
                stamp = max(max(record.timestamp, 0) * 1000, stamp + 1)
                first.setdefault(partition, stamp)
                self.leave_letters((partition, record.offset), "names an offset without a record")
                self.record(record, stamp, is_exact)
            self.leave_letters((partition, high), "names an offset without a record")
            self.leave_letters((partition + 1, 0), "names an offset after the end of the topic")
        self.leave_letters((math.inf, 0), "names a partition that the topic lacks")
        return begins(self.topic, first)

    def leave_letters(self, position, violation):
        """Leaves the dead letters before a position; `None` if they may be there."""
        while self.letter and (self.letter.partition, self.letter.offset) < position:
            if violation:
                self.report.violation(f"dead letter {self.letter.place} {violation}")
            self.letter = next(self.letters, None)

    def letters_of(self, record):
        found = []
        while self.letter and (self.letter.partition, self.letter.offset) == (record.partition, record.offset):
            found.append(self.letter)
            self.letter = next(self.letters, None)
        return found

    def record(self, record, stamp, is_exact):
        letters = self.letters_of(record)
        for letter in letters:
            self.letter_of(record, letter, stamp if is_exact else None)
        try:
            if record.value is None:
                self.deletion(record, stamp, is_exact, letters)
            else:
                self.row(record, stamp, is_exact, letters)
        except Invalid as error:
            if not letters and record.timestamp >= self.letters_begin:
                self.report.violation(f"record {at(record)} is neither a row nor a dead letter: {error}")

    def letter_of(self, record, letter, stamp):
        """Compares a dead letter with its record."""
        for part, expected in [("key", digest(record.key)), ("value", digest(record.value)),
                               ("headers", digest_headers(record.headers))]:  # fmt: skip
            if part not in letter.omitted and getattr(letter, part) != expected:
                self.report.violation(f"dead letter {letter.place} has other {part} than record {at(record)}")
        if stamp is not None and letter.stamp != stamp:
            self.report.violation(f"dead letter {letter.place} has another write timestamp than record {at(record)}")

    def deletion(self, record, stamp, is_exact, letters):
        if record.key is None:
            raise Invalid("no key")
        key = read_key(self.contract, record.key)
        self.allow_letters(record, letters, REJECTED_TOMBSTONE)
        self.event(key, None, record, stamp, is_exact, bool(letters), None, None)

    def row(self, record, stamp, is_exact, letters):
        values = read_record(self.contract, record.value)
        self.allow_letters(record, letters, REFUSED)
        accepted_at = ingested_at(record)
        columns = [digest(stored(values, *column)) for column in self.columns]
        columns.append(digest(struct.pack(">q", accepted_at)))
        row = join([stored(values, *column) for column in self.keys])
        expires = None if self.settings.row_ttl_ms is None else accepted_at + self.settings.row_ttl_ms
        self.event(values[self.keys[0][0]], row, record, stamp, is_exact, bool(letters), expires, b"".join(columns))

    def event(self, key, row, record, stamp, is_exact, is_letter, expires, columns):
        position = (record.partition, record.offset)
        self.spool.add("events", key, row, stamp, *position, is_exact, is_letter, expires, columns)

    def allow_letters(self, record, letters, reason):
        """A valid record is a dead letter only if the table refuses it, or a setting."""
        for letter in letters:
            if letter.reason != reason:
                self.report.violation(f"record {at(record)} is valid, but has the dead letter {letter.place}")


def ingested_at(record):
    """When the publisher accepted the record, or else Kafka's timestamp, or else 1970. In milliseconds since 1970."""
    header = next((value for name, value in record.headers if name == "accepted-at-us" and value is not None), None)
    try:
        accepted = int(header) // 1000 if header is not None else -1
    except ValueError:
        accepted = -1
    return next((each for each in (accepted, record.timestamp) if 0 <= each <= LATEST_MS), 0)


def stored(values, slot, is_text):
    """The bytes in the table. An existing table may have an instant in a text column."""
    value = values[slot]
    return instant_text(value).encode() if is_text and value is not None else value


def spool_rows(contract, table, spool, report):
    keys, columns = len(contract.primary_key), len(column_names(contract))
    for values in table.rows:
        report.rows += 1
        stamps = [
            struct.unpack(">q", stamp)[0] if stamp is not None else STAMP_OF_NULL
            for stamp in values[keys + columns :]
        ]
        spool.add("rows", values[0], join(values[:keys]), b"".join(map(digest, values[keys : keys + columns])),
                  struct.pack(f">{columns}q", *stamps))  # fmt: skip


# An event as the spool returns it.
KEY, ROW, STAMP, PARTITION, OFFSET, IS_EXACT, IS_LETTER, EXPIRES, COLUMNS = range(9)


class RowComparison:
    """Compares the events of each key with its rows."""

    def __init__(self, contract, settings, report, log_begins):
        self.contract, self.settings, self.report, self.log_begins = contract, settings, report, log_begins
        self.names = column_names(contract)
        self.key_fields = [contract.fields[slot(contract, name)] for name in contract.primary_key]

    def compare(self, events, rows):
        """Merges events and rows, both sorted by the key."""
        events, rows = groupby(events, itemgetter(0)), groupby(rows, itemgetter(0))
        event, row = next(events, None), next(rows, None)
        while event or row:
            key = min(each[0] for each in (event, row) if each)
            of_key, found = [], []
            if event and event[0] == key:
                of_key = list(event[1])
                event = next(events, None)
            if row and row[0] == key:
                found = list(row[1])
                row = next(rows, None)
            self.key(of_key, found)

    def key(self, events, rows):
        outcomes, is_deleted = self.outcomes(events)
        for _, row, columns, stamps in rows:
            expected = outcomes.pop(row, None)
            stamps = struct.unpack(f">{len(self.names)}q", stamps)
            if expected is not None:
                self.row(row, columns, stamps, expected)
            elif is_deleted:
                self.report.violation(f"row {self.text(row)} exists, although its key was deleted")
            elif max(stamps) >= self.log_begins:
                self.report.violation(f"row {self.text(row)} has no record")
        for row, expected in outcomes.items():
            if None not in expected:
                self.report.violation(f"row {self.text(row)} of record {of(expected[-1])} is missing")

    def outcomes(self, events):
        """Returns what each row may be: an event, or None for absent. Also whether the key was deleted.

        There are several only if a valid record is a dead letter, because it may have been redriven; around the end of
        a row's life; and if the order of records in several partitions depends on a clock.
        """
        is_ordered = all(event[IS_EXACT] for event in events) or len({event[PARTITION] for event in events}) < 2
        outcomes, is_deleted, previous = {}, False, None
        for event in events:
            replaces = is_ordered and not event[IS_LETTER] and (previous is None or previous[STAMP] < event[STAMP])
            previous = event
            if event[ROW] is None:
                is_deleted = is_deleted or replaces
                for row, expected in outcomes.items():
                    outcomes[row] = [None] if replaces else [*expected, None]
            else:
                states = self.states(event)
                earlier = outcomes.get(event[ROW], [None])
                outcomes[event[ROW]] = states if replaces else [*earlier, *states]
        return outcomes, is_deleted

    def states(self, event):
        """A row, or its absence at the end of its life."""
        if event[EXPIRES] is None or self.settings.now < event[EXPIRES] - EXPIRY_TOLERANCE_MS:
            return [event]
        return [None] if self.settings.now > event[EXPIRES] + EXPIRY_TOLERANCE_MS else [event, None]

    def row(self, row, columns, stamps, expected):
        events = [event for event in expected if event is not None]
        if not events:
            self.report.violation(f"row {self.text(row)} exists, although it was deleted or has expired")
            return
        differences = [self.differences(event, columns, stamps) for event in events]
        if all(differences):
            names = ", ".join(differences[-1])
            self.report.violation(f"row {self.text(row)} differs from record {of(events[-1])} in {names}")

    def differences(self, event, columns, stamps):
        """The names of the columns whose value or write timestamp is not the record's."""
        if columns == event[COLUMNS] and event[IS_EXACT]:
            wrong = {stamp for stamp in stamps if stamp not in (event[STAMP], STAMP_OF_NULL)}
            if not wrong and STAMP_OF_NULL not in stamps:
                return []
        stamp = event[STAMP] if event[IS_EXACT] else max(stamps)
        found = []
        for index, name in enumerate(self.names):
            value = columns[8 * index : 8 * index + 8]
            if value != event[COLUMNS][8 * index : 8 * index + 8]:
                found.append(name)
            elif stamps[index] != (STAMP_OF_NULL if value == NULL else stamp):
                found.append(f"the write timestamp of {name}")
        return found

    def text(self, row):
        return "/".join(key_text(field, value) for field, value in zip(self.key_fields, split(row), strict=True))


def column_names(contract):
    """The columns outside the primary key, in the order of the fields."""
    return [field.name for field in contract.fields if field.name not in contract.primary_key] + [INGESTED_AT]


def slot(contract, name):
    return next(index for index, field in enumerate(contract.fields) if field.name == name)


def at(record):
    return f"{record.partition}:{record.offset}"


def of(event):
    return f"{event[PARTITION]}:{event[OFFSET]}"
