"""Corrupts generated pipelines in 1,000 random ways, and checks that each corruption is found. No server.

The test environment (topic, dead letters, table) is generated with an encoder and a table of its own, so that it also
checks the readers. Environments without a corruption must have no violation.
"""
import base64
import json
import random
import struct
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

import proto
from check import Report, Settings, column_names, verify
from evidence import Record, Table, Topic, read_letter
from values import Invalid, from_text, read_field, read_record

CORRUPTIONS = 1_000
PARTITIONS = 3
EVENTS = 30
KEYS = 6
NOW = 1_790_000_000_000
TOPIC_ID = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVERY_TYPE = """syntax = "proto3";
package test.v1;
import "affluent/options/v1/options.proto";
message Reading {
  option (affluent.options.v1.record) = { resource: "test-readings" key: "sensor" clustering: ["taken_at", "kind"] };
  int64 sensor = 1;
  google.protobuf.Timestamp taken_at = 2;
  Kind kind = 3;
  enum Kind { KIND_UNSPECIFIED = 0; KIND_A = 1 [deprecated = true]; }
  optional float celsius = 4;
  double volts = 5;
  repeated google.protobuf.Timestamp seen = 6;
  map<string, bytes> parts = 9 /* out of order */;
  optional fixed32 count = 8;
  sint32 delta = 7;
  optional string mail = 10 [(affluent.options.v1.rule).format = EMAIL, (affluent.options.v1.rule).max_length = 40];
  optional bool on = 11;
}"""


class TestEnv:
    """A pipeline at rest."""

    def __init__(self, contract, seed, text_instants=frozenset()):
        self.contract, self.random, self.text_instants = contract, random.Random(seed), text_instants
        self.log = {partition: [] for partition in range(PARTITIONS)}
        self.letters = []
        # (key, *clustering) -> {column: (bytes or None, write timestamp)}. And the rows that were overwritten.
        self.table, self.overwritten, self.deleted = {}, [], []
        self.primary_keys = [[self.value(field) for field in self.key_fields()] for _ in range(KEYS)]
        for _ in range(EVENTS):
            self.event()

    def key_fields(self):
        return [self.field(name) for name in self.contract.primary_key]

    def field(self, name):
        return next(field for field in self.contract.fields if field.name == name)

    def event(self):
        rng = self.random
        primary_key = list(rng.choice(self.primary_keys))
        # Some rows share a key.
        primary_key[0] = self.primary_keys[rng.randrange(KEYS // 2)][0] if len(primary_key) > 1 else primary_key[0]
        partition = primary_key[0][1][-1] % PARTITIONS
        log = self.log[partition]
        # Timestamps repeat and step back, so that ties are broken.
        timestamp = NOW - 1_000_000 + len(log) * 50 + rng.choice([0, 0, 70, -200])
        stamp = max(timestamp * 1000, log[-1][1] + 1) if log else timestamp * 1000
        key = str(primary_key[0][0]).strip('"').encode()
        record = Record(partition, len(log), timestamp, key, None, [("schema", b"test")])
        log.append((record, stamp))
        kind = rng.random()
        if kind < 0.12:
            self.delete(primary_key[0][1])
        elif kind < 0.3:
            record.value = rng.choice([b"{}", b"null", b"\xff", b"[1]", b"", self.broken(primary_key)])
            self.send_to_dead_letters(record, stamp, "not_json")
        else:
            self.write(record, stamp, primary_key)

    def delete(self, key):
        for row in [row for row in self.table if row[0] == key]:
            self.deleted.append((row, self.table.pop(row)))

    def write(self, record, stamp, primary_key):
        accepted = record.timestamp - self.random.randrange(1, 50)
        record.headers.append(("accepted-at-us", str(accepted * 1000 + 7).encode()))
        values = self.values(primary_key)
        record.value = self.json(values)
        row = tuple(values[field.name][1] for field in self.key_fields())
        cells = {name: self.cell(name, values.get(name), stamp) for name in column_names(self.contract)[:-1]}
        cells["ingested_at"] = (struct.pack(">q", accepted), stamp)
        if row in self.table:
            self.overwritten.append((row, self.table[row]))
        self.table[row] = cells

    def cell(self, name, value, stamp):
        empty = None if self.field(name).presence == "optional" else bytes(4)
        cql = value[1] if value else empty
        if cql is not None and name in self.text_instants:
            cql = text_of(struct.unpack(">q", cql)[0]).encode()
        return cql, None if cql is None else stamp

    def send_to_dead_letters(self, record, stamp, reason):
        headers = [("dlq-reason", reason), ("dlq-error", "text"), ("dlq-topic", "records"), ("dlq-topic-id", TOPIC_ID),
                   ("dlq-partition", str(record.partition)), ("dlq-offset", str(record.offset)),
                   ("dlq-write-timestamp", str(stamp)), ("dlq-at", "2026-05-01T00:00:00Z")]  # fmt: skip
        headers = record.headers + [(name, value.encode()) for name, value in headers]
        self.letters.append(Record(0, len(self.letters), NOW, record.key, record.value, headers))

    def broken(self, primary_key):
        """A record without a required field."""
        values = self.values(primary_key)
        del values[self.random.choice([field.name for field in self.contract.fields if field.presence == "required"])]
        return self.json(values)

    def values(self, primary_key):
        """Random values by field: the JSON text, and the CQL bytes."""
        values = dict(zip(self.contract.primary_key, primary_key, strict=True))
        for field in self.contract.fields:
            if field.name not in values and (field.presence == "required" or self.random.random() < 0.7):
                values[field.name] = self.value(field)
        return values

    def json(self, values):
        members = [f"{json.dumps(name)}:{value[0]}" for name, value in values.items()]
        members += self.random.choice([[], ['"unknown":[{"a":1},null]']])
        self.random.shuffle(members)
        return ("{" + self.random.choice([",", " ,\n"]).join(members) + "}").encode()

    def value(self, field):
        if field.presence == "list":
            items = [self.scalar(field) for _ in range(self.random.randrange(4))]
            return f"[{','.join(text for text, _ in items)}]", pack(len(items), [cql for _, cql in items])
        if field.presence == "map":
            names = sorted({f"{self.random.randrange(40)} é" for _ in range(self.random.randrange(4))})
            items = [(name, *self.scalar(field)) for name in names]
            parts = [part for name, _, cql in items for part in (name.encode(), cql)]
            self.random.shuffle(items)
            text = ",".join(f"{json.dumps(name, ensure_ascii=False)}:{value}" for name, value, _ in items)
            return f"{{{text}}}", pack(len(items), parts)
        return self.scalar(field)

    def scalar(self, field):
        rng = self.random
        if field.type == "text":
            digits = rng.randrange(10**6)
            if field.integer_accepted and rng.random() < 0.3:
                return str(digits), str(digits).encode()
            text = f"{digits}@é" if field.email else f" {digits} Ж"[: field.max_length]
            return json.dumps(text, ensure_ascii=rng.random() < 0.5), text.encode()
        if field.type == "uuid":
            value = uuid.UUID(int=rng.getrandbits(128) | 1)
            return json.dumps(str(value)), value.bytes
        if field.type == "bool":
            value = rng.random() < 0.5
            return json.dumps(value), bytes([value])
        if field.type in ("float", "double"):
            code = ">f" if field.type == "float" else ">d"
            cql = struct.pack(code, rng.uniform(-1e9, 1e9) * 10.0 ** rng.randrange(-20, 20))
            return repr(struct.unpack(code, cql)[0]), cql
        if field.type == "bytes":
            value = rng.randbytes(rng.randrange(6))
            encode = rng.choice([base64.b64encode, base64.urlsafe_b64encode])
            return json.dumps(encode(value).decode().rstrip(rng.choice(["", "="]) or None)), value
        if field.type == "enum":
            name = rng.choice(field.names)
            return json.dumps(name), name.encode()
        if field.type == "timestamp":
            return self.instant()
        bits = {"int32": 31, "uint32": 32, "int64": 63}[field.type]
        value = rng.getrandbits(bits) * (1 if field.type == "uint32" else rng.choice([1, -1]))
        # A key has its canonical text in Kafka, so it is not written with zeros.
        text = str(value) if field.name == self.contract.key else rng.choice([str(value), f'"{value}"'])
        return text, struct.pack(">i" if field.type == "int32" else ">q", value)

    def instant(self):
        millis = self.random.randrange(-62_135_596_800_000 + 86_400_000, 253_402_300_799_999 - 86_400_000)
        minutes = self.random.choice([0, 90, -735])
        local = text_of(millis + minutes * 60_000)[:-1]
        offset = "Z" if minutes == 0 else f"{'+' if minutes > 0 else '-'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        return json.dumps(local + self.random.choice(["", "999"]) + offset), struct.pack(">q", millis)

    def verify(self):
        log = [(partition, [record for record, _ in records]) for partition, records in self.log.items()]
        ends = {partition: (0, records[-1].offset + 1 if records else 0) for partition, records in log}
        topic = Topic("records", TOPIC_ID, ends, dict(log).__getitem__)
        letters = Topic("letters", None, {0: (0, len(self.letters))}, lambda _: self.letters)
        names = column_names(self.contract)
        rows = [[*row, *(cells[name][0] for name in names), *(stamp_bytes(cells[name][1]) for name in names)]
                for row, cells in self.table.items()]  # fmt: skip
        return verify(self.contract, topic, letters, Table(self.text_instants, rows), Settings(NOW), Report())


def pack(count, parts):
    return struct.pack(">i", count) + b"".join(struct.pack(">i", len(part)) + part for part in parts)


def stamp_bytes(stamp):
    return None if stamp is None else struct.pack(">q", stamp)


def text_of(millis):
    moment = EPOCH + timedelta(milliseconds=millis)
    return f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


# Each corruption changes an environment, or returns False if that environment has nothing to corrupt in this way.


def change_a_byte(env, rng):
    row, name = pick_cell(env, rng, lambda value: value)
    value, stamp = env.table[row][name]
    at = rng.randrange(len(value))
    changed = bytes([value[at] ^ (1 << rng.randrange(8))])
    env.table[row][name] = (value[:at] + changed + value[at + 1 :], stamp)


def clear_a_column(env, rng):
    row, name = pick_cell(env, rng, lambda value: value is not None)
    env.table[row][name] = (None, None)


def fill_a_column(env, rng):
    found = pick_cell(env, rng, lambda value: value is None)
    if not found:
        return False
    row, name = found
    env.table[row][name] = (b"\0\0\0\0\0\0\0\1", env.table[row]["ingested_at"][1])


def swap_two_values(env, rng):
    rows, name = list(env.table), rng.choice(column_names(env.contract))
    pairs = [(one, two) for one in rows for two in rows if env.table[one][name][0] != env.table[two][name][0]]
    if not pairs:
        return False
    one, two = (env.table[row] for row in rng.choice(pairs))
    one[name], two[name] = (two[name][0], one[name][1]), (one[name][0], two[name][1])


def change_a_write_timestamp(env, rng):
    row, name = pick_cell(env, rng, lambda value: value is not None)
    value, stamp = env.table[row][name]
    env.table[row][name] = (value, stamp + rng.choice([-1, 1, 1000, -1_000_000]))


def write_a_row_later(env, rng):
    cells = env.table[rng.choice(list(env.table))]
    for name, (value, stamp) in cells.items():
        cells[name] = (value, stamp and stamp + 1)


def drop_a_row(env, rng):
    del env.table[rng.choice(list(env.table))]


def add_a_row(env, rng):
    row, cells = rng.choice(list(env.table.items()))
    added = tuple(env.value(field)[1] for field in env.key_fields())
    if len(row) > 1 and rng.random() < 0.5:
        added = (row[0], *added[1:])
    if added in env.table:
        return False
    env.table[added] = dict(cells)


def revive_a_deleted_row(env, rng):
    deleted = [(row, cells) for row, cells in env.deleted if row not in env.table]
    if not deleted:
        return False
    row, cells = rng.choice(deleted)
    env.table[row] = cells


def restore_an_earlier_row(env, rng):
    found = earlier_row(env, rng)
    if not found:
        return False
    env.table[found[0]] = found[1]


def mix_two_versions(env, rng):
    found = earlier_row(env, rng)
    if not found:
        return False
    row, cells = found
    changed = [name for name, (value, _) in cells.items() if value != env.table[row][name][0]]
    name = rng.choice(changed)
    env.table[row][name] = cells[name]


def move_a_row(env, rng):
    row = rng.choice(list(env.table))
    moved = (*row[:-1], bytes(part ^ (at == 0) for at, part in enumerate(row[-1])))
    if moved in env.table:
        return False
    env.table[moved] = env.table.pop(row)


def drop_a_dead_letter(env, rng):
    if not env.letters:
        return False
    del env.letters[rng.randrange(len(env.letters))]


def corrupt_a_dead_letter(env, rng):
    found = [letter for letter in env.letters if letter.value and letter.key]
    if not found:
        return False
    letter = rng.choice(found)
    part = rng.choice(["key", "value"])
    setattr(letter, part, getattr(letter, part)[:-1] + b"~")


def change_a_header_of_a_dead_letter(env, rng):
    if not env.letters:
        return False
    letter = rng.choice(env.letters)
    at = rng.randrange(len(letter.headers))
    name, value = letter.headers[at]
    # These two are texts for the reader.
    if name in ("dlq-at", "dlq-error", "dlq-reason"):
        return False
    letter.headers[at] = (name, str(int(value) + 1000).encode() if value.isdigit() else value[:-1] + b"~")


def lose_a_header_of_a_dead_letter(env, rng):
    if not env.letters:
        return False
    letter = rng.choice(env.letters)
    del letter.headers[rng.randrange(len(letter.headers))]


def bury_a_valid_record(env, rng):
    valid = [(record, stamp) for log in env.log.values() for record, stamp in log if is_valid(env.contract, record)]
    env.send_to_dead_letters(*rng.choice(valid), "too_long")


def lose_a_record(env, rng):
    """Loses one that determines a row, or has a dead letter. The end of the topic stays."""
    determining = {(row[0][-1] % PARTITIONS, cells["ingested_at"][1]) for row, cells in env.table.items()}
    determining |= {(letter.partition, letter.stamp) for letter, _, _ in map(read_letter, env.letters)}
    places = [(log, at) for log in env.log.values() for at, (record, stamp) in enumerate(log[:-1])
              if (record.partition, stamp) in determining]  # fmt: skip
    if not places:
        return False
    log, at = rng.choice(places)
    del log[at]


def corrupt_a_record(env, rng):
    """Makes one invalid that has no dead letter."""
    valid = [record for log in env.log.values() for record, _ in log if is_valid(env.contract, record)]
    record = rng.choice(valid)
    record.value = record.value[:-1]


KINDS = [
    change_a_byte, clear_a_column, fill_a_column, swap_two_values, change_a_write_timestamp, write_a_row_later,
    drop_a_row, add_a_row, revive_a_deleted_row, restore_an_earlier_row, mix_two_versions, move_a_row,
    drop_a_dead_letter, corrupt_a_dead_letter, change_a_header_of_a_dead_letter, lose_a_header_of_a_dead_letter,
    bury_a_valid_record, lose_a_record, corrupt_a_record,
]  # fmt: skip


def pick_cell(env, rng, accepts):
    found = [(row, name) for row, cells in env.table.items() for name, (value, _) in cells.items() if accepts(value)]
    return rng.choice(found) if found else None


def earlier_row(env, rng):
    found = [(row, cells) for row, cells in env.overwritten if row in env.table and cells != env.table[row]]
    found = [(row, cells) for row, cells in found
             if any(cells[name][0] != env.table[row][name][0] for name in cells)]  # fmt: skip
    return rng.choice(found) if found else None


def is_valid(contract, record):
    try:
        return record.value is not None and bool(read_record(contract, record.value))
    except Invalid:
        return False


def contracts(root):
    """The contracts, each with the instants that its table has as text."""
    every_type = proto.from_source(EVERY_TYPE, "test.proto")
    return [
        (proto.load(root / "proto-schema/affluent/users/v1/user.proto"), {"dob"}),
        (proto.load(root / "examples/orders/orders.proto"), frozenset()),
        (every_type, frozenset()),
    ]


def check_readers(contract):
    """Texts whose meaning docs/records.md determines: the CQL bytes, or None for refused."""
    fields = {field.name: field for field in contract.fields}
    cases = [
        ("delta", "7", b"\0\0\0\7"), ("delta", '"007"', b"\0\0\0\7"), ("delta", "-0", bytes(4)), ("delta", "7.0", None),
        ("delta", "7e0", None), ("delta", '"+7"', None), ("delta", "2147483648", None), ("delta", "null", None),
        ("count", "4294967295", b"\0\0\0\0\xff\xff\xff\xff"), ("count", "-1", None), ("on", '"true"', None),
        ("volts", "-0.0", bytes(8)), ("volts", "1e400", None), ("volts", '"1"', None), ("volts", "NaN", None),
        ("celsius", "1e39", None), ("celsius", "1.00000017881393432617187499", struct.pack(">f", 1.0000001)),
        ("kind", "1", None), ("kind", '"KIND_A"', b"KIND_A"), ("kind", '"KIND_B"', None),
        ("mail", '"a@b"', b"a@b"), ("mail", '"a@b@c"', None), ("mail", '" \\u2003 "', None), ("mail", '"@b"', None),
        ("mail", '"a@\\u0000"', None), ("mail", '"a@\\ud800"', None), ("mail", f'"a@{"b" * 39}"', None),
        ("parts", '{"a":"AA","a":"AA"}', None), ("parts", '{"a":null}', None), ("parts", '{"":"AA"}', None),
        ("parts", '{"a":"AB=="}', None), ("parts", '{"a":"-_8"}', pack(1, [b"a", b"\xfb\xff"])),
        ("taken_at", '"1969-12-31T23:59:59.9999Z"', struct.pack(">q", -1)),
        ("taken_at", '"2026-01-01T00:00:60Z"', None), ("taken_at", '"2026-02-29T00:00:00Z"', None),
        ("taken_at", '"0001-01-01T00:00:00+00:01"', None),
        ("taken_at", '"0000-12-31T23:59:00-00:01"', struct.pack(">q", -62_135_596_800_000)), ("seen", "{}", None),
    ]  # fmt: skip
    from values import DECODER

    for name, text, expected in cases:
        try:
            found = read_field(fields[name], {name: DECODER.decode(text)})
        except Invalid:
            found = None
        assert found == expected, f"{name}: {text} is read as {found}, not {expected}"
    assert from_text(fields["sensor"], "-7") == struct.pack(">q", -7)
    assert [field.number for field in contract.fields] == list(range(1, 12))
    assert (contract.table, contract.topic) == ("created_test_readings", "test-readings_created")
    assert contract.clustering == ["taken_at", "kind"]


WALK = """syntax = "proto3";
message Step {
  option (affluent.options.v1.record) = { resource: "steps" key: "walk" clustering: "number" };
  int32 walk = 1;
  int32 number = 2;
  optional string note = 3;
}"""


class Walk:
    """Hand-made records of walk 1 and their rows, for what random environments do not have."""

    def __init__(self, *notes, low=0, letters=(), letters_low=0, ttl=None):
        """Each note is the record of step 1, None a deletion, b"" an invalid record. Timestamps are 10 s apart."""
        values = {None: None, b"": b"{}"}
        self.log = [
            Record(0, low + at, NOW - 100_000 + at * 10_000, b"1",
                   values.get(note, f'{{"walk":1,"number":1,"note":"{note}"}}'.encode()))
            for at, note in enumerate(notes)
        ]  # fmt: skip
        self.ranges, self.letters_low, self.settings = {0: (low, low + len(notes))}, letters_low, Settings(NOW, ttl)
        self.letters = [self.letter(*letter) for letter in letters]

    def letter(self, at, reason):
        record = self.log[at]
        headers = {"dlq-reason": reason, "dlq-error": "text", "dlq-topic": "records", "dlq-topic-id": TOPIC_ID,
                   "dlq-partition": "0", "dlq-offset": str(record.offset), "dlq-at": "2026-05-01T00:00:00Z",
                   "dlq-write-timestamp": str(record.timestamp * 1000)}  # fmt: skip
        headers = [(name, value.encode()) for name, value in headers.items()]
        return Record(0, self.letters_low, record.timestamp, record.key, record.value, headers)

    def row(self, at, note, number=1):
        """A row, as the record at this position wrote it."""
        stamp = struct.pack(">q", (NOW - 100_000 + at * 10_000) * 1000)
        accepted = struct.pack(">q", NOW - 100_000 + at * 10_000)
        return [struct.pack(">i", 1), struct.pack(">i", number), note.encode(), accepted, stamp, stamp]

    def violations(self, *rows):
        topic = Topic("records", TOPIC_ID, self.ranges, lambda _: self.log)
        ends = {0: (self.letters_low, self.letters_low + len(self.letters))}
        letters = Topic("letters", None, ends, lambda _: self.letters)
        contract = proto.from_source(WALK, "walk.proto")
        return verify(contract, topic, letters, Table(set(), rows), self.settings, Report()).violations


def check_cases():
    """Deleted parts of topics, expiry, refused records: what is determined, and what is not."""
    # Records before a log's begin: an older row may be theirs, a newer one and one of a deleted key may not.
    walk = Walk("a", "b", low=5)
    assert walk.violations(walk.row(1, "b"), walk.row(-1, "z", 2)) == 0
    assert walk.violations(walk.row(1, "b"), walk.row(2, "z", 2)) == 1
    walk = Walk(None, low=5)
    assert walk.violations() == 0
    assert walk.violations(walk.row(-1, "z")) == 1
    # The write timestamp depends on deleted records, but is one for all columns.
    walk = Walk("a", low=5)
    later = walk.row(1, "a")
    later[3] = walk.row(0, "a")[3]
    assert walk.violations(later) == 0
    assert walk.violations([*later[:4], later[4], walk.row(0, "a")[5]]) == 1
    # A record without a row and without a letter, unless letters of its time were deleted.
    assert Walk(b"").violations() == 1
    assert Walk(b"", letters_low=3).violations() == 0
    assert Walk(b"", b"", letters=[(0, "missing")], letters_low=3).violations() == 1
    # A record that the table refuses may be redriven, and so may a rejected deletion.
    walk = Walk("a", "b", letters=[(1, "refused_by_cassandra")])
    assert [walk.violations(walk.row(*each)) for each in [(0, "a"), (1, "b"), (1, "a")]] == [0, 0, 1]
    walk = Walk("a", None, letters=[(1, "tombstone")])
    assert (walk.violations(walk.row(0, "a")), walk.violations()) == (0, 0)
    assert Walk("a", None, letters=[(1, "tombstone_without_id")]).violations() == 1
    # 100 s old: expired, at the end of its life, alive.
    for ttl, present, absent in [(30_000, 1, 0), (90_000, 0, 0), (200_000, 0, 1)]:
        walk = Walk("a", ttl=ttl)
        assert (walk.violations(walk.row(0, "a")), walk.violations()) == (present, absent), ttl


def main(root):
    started, found, applied = time.monotonic(), 0, dict.fromkeys((kind.__name__ for kind in KINDS), 0)
    kinds = contracts(root)
    check_readers(kinds[-1][0])
    check_cases()
    seed = 0
    while sum(applied.values()) < CORRUPTIONS:
        seed += 1
        contract, text_instants = kinds[seed % len(kinds)]
        env, corruption = TestEnv(contract, seed, text_instants), KINDS[seed % len(KINDS)]
        report = env.verify()
        if report.violations:
            print(f"environment {seed} has violations without a corruption: {report.kept}", file=sys.stderr)
            return 1
        if not env.table or corruption(env, random.Random(seed)) is False:
            continue
        applied[corruption.__name__] += 1
        if env.verify().violations:
            found += 1
        else:
            print(f"environment {seed}: {corruption.__name__} is not found", file=sys.stderr)
    print(json.dumps({"corruptions": sum(applied.values()), "found": found, "kinds": applied,
                      "seconds": round(time.monotonic() - started, 1)}))  # fmt: skip
    return 0 if found == CORRUPTIONS and all(applied.values()) else 1
