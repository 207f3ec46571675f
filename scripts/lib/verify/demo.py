"""Verifies the demo's pipeline, before and after more records of another producer, and after a corruption of the table.

The producer sends what the demo lacks: deletions, invalid records, records after a deletion.
"""
import re
import signal
import subprocess
import time

from cassandra.query import SimpleStatement
from check import INGESTED_AT, Report, Settings, verify
from confluent_kafka import Consumer, Producer, TopicPartition
from servers import Cassandra, Kafka, ReadError, quoted

ADDRESS = re.compile(r"\s+(kafka|cassandra)\s+([\w.\[\]:,-]+)")
KEYSPACE = "spark_streams"
GROUP = "streamer"
# Of the records that are sent again, and of those that are deleted or broken.
SENT_AGAIN = 60
WRITE_TIMEOUT = 120.0  # seconds, from the last record to its row


def run(root, record, contract, users):
    """Starts the demo, and returns the report of the records that it and the producer have sent."""
    command = [root / "scripts" / "demo", "--record", record, "--users", str(users), "--keep"]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        addresses = read_addresses(demo)
        return exercise(contract, addresses["kafka"], addresses["cassandra"])
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate()


def read_addresses(demo):
    """Passes the demo's output on until it has printed the addresses of both servers."""
    addresses = {}
    for line in demo.stdout:
        print(line, end="", flush=True)
        if found := ADDRESS.fullmatch(line.rstrip("\n")):
            addresses[found[1]] = found[2]
        if len(addresses) == 2:
            return addresses
    raise ReadError(f"the demo ended with {demo.wait()}")


def exercise(contract, brokers, contact_points):
    kafka, cassandra = Kafka(brokers, {}), Cassandra(contact_points, "local_quorum")
    first = check(contract, kafka, cassandra)
    invalid = send_more(contract, kafka, brokers)
    wait_for_streamer(contract, kafka, brokers)
    report = check(contract, kafka, cassandra)
    if first.violations or report.violations:
        return report if report.violations else first
    if report.records - first.records <= invalid or report.dead_letters - first.dead_letters < invalid:
        raise ReadError(f"{invalid} invalid records were sent, and {report.dead_letters} dead letters found")
    corrupt_a_row(contract, cassandra)
    corrupted = check(contract, kafka, cassandra)
    if corrupted.violations != 1:
        raise ReadError(f"one column was corrupted, and {corrupted.violations} violations found: {corrupted.kept}")
    print(f"found the corruption: {corrupted.kept[0]}")
    return report


def check(contract, kafka, cassandra):
    topic, letters = kafka.topic(contract.topic), kafka.topic(f"{contract.topic}.dead_letter")
    table = cassandra.table(contract, KEYSPACE, contract.table)
    return verify(contract, topic, letters, table, Settings(round(time.time() * 1000)), Report())


def send_more(contract, kafka, brokers):
    """Deletes keys, breaks records and sends some again. Returns the number of invalid records."""
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2", "enable.idempotence": True})
    partition = next(number for number, (low, high) in kafka.ranges(contract.topic).items() if high > low)
    records = list(kafka.records(contract.topic, partition))[:SENT_AGAIN]
    invalid = 0
    for index, record in enumerate(records):
        values = [[None], [record.value[:-1]], [b"{}", record.value], [None, record.value]][index % 4]
        invalid += index % 4 in (1, 2)
        for value in values:
            producer.produce(contract.topic, value, record.key, headers=record.headers)
    if producer.flush(WRITE_TIMEOUT):
        raise ReadError("Kafka does not acknowledge records")
    return invalid


def wait_for_streamer(contract, kafka, brokers):
    """Waits until the group's committed offsets are the ends of the topic."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": GROUP})
    ends = {partition: high for partition, (_, high) in kafka.ranges(contract.topic).items() if high}
    places = [TopicPartition(contract.topic, partition) for partition in ends]
    deadline = time.monotonic() + WRITE_TIMEOUT
    while {place.partition: place.offset for place in consumer.committed(places, timeout=WRITE_TIMEOUT)} != ends:
        if time.monotonic() > deadline:
            raise ReadError(f"the streamer has lag after {WRITE_TIMEOUT} s")
        time.sleep(0.2)
    consumer.close()


def corrupt_a_row(contract, cassandra):
    """Changes one column of one row, under the column's own write timestamp."""
    table = f"{quoted(KEYSPACE)}.{quoted(contract.table)}"
    keys = ", ".join(map(quoted, contract.primary_key))
    query = f"SELECT {keys}, {INGESTED_AT}, WRITETIME({INGESTED_AT}) FROM {table} LIMIT 1"
    *key, value, stamp = next(iter(cassandra.session.execute(SimpleStatement(query))))
    where = " AND ".join(f"{quoted(name)} = {from_blob(cassandra, contract, name, it)}"
                         for name, it in zip(contract.primary_key, key, strict=True))  # fmt: skip
    # Of two values under one write timestamp Cassandra keeps the larger one.
    later = int.from_bytes(value, "big") + 1
    cassandra.session.execute(
        f"UPDATE {table} USING TIMESTAMP {int.from_bytes(stamp, 'big')} SET {INGESTED_AT} = {later} WHERE {where}"
    )


def from_blob(cassandra, contract, name, value):
    kind = cassandra.cluster.metadata.keyspaces[KEYSPACE].tables[contract.table].columns[name].cql_type
    return f"blobAs{kind.capitalize()}(0x{value.hex()})"
