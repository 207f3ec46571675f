"""The original's producer loop, which sends each user as JSON to Kafka and flushes it; and the same loop batched, as the
client's documentation advises. Prints its cost as a line of JSON, without connecting and reading.

usage: produce.py CLIENT MODE BROKERS TOPIC FILE RECORDS
CLIENT: kafka-python | confluent-kafka; MODE: each | batched; FILE: a user per line, as JSON.
"""

import itertools
import json
import sys
import time

# The fastest settings of a sweep; the original sets none of them.
LINGER_MS = 20
BATCH_BYTES = 1_048_576
COMPRESSION = "lz4"

# Users in memory, which are sent repeatedly.
DISTINCT_USERS = 10_000


class KafkaPython:
    def __init__(self, brokers, batched):
        from kafka import KafkaProducer

        batching = {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES, "compression_type": COMPRESSION}
        settings = batching if batched else {}
        self.producer = KafkaProducer(bootstrap_servers=brokers.split(","), acks="all", **settings)
        self.sent = []

    def send(self, topic, key, value):
        self.sent.append(self.producer.send(topic, value, key=key))

    def flush(self):
        self.producer.flush()
        for delivery in self.sent:
            delivery.get(timeout=30)
        self.sent.clear()

    def check_deliveries(self):
        """Checks early deliveries, so that they need not be kept."""
        if len(self.sent) >= 10_000:
            for delivery in self.sent[:5_000]:
                delivery.get(timeout=30)
            del self.sent[:5_000]


class ConfluentKafka:
    def __init__(self, brokers, batched):
        from confluent_kafka import Producer

        config = {"bootstrap.servers": brokers, "acks": "all", "queue.buffering.max.messages": 1_000_000}
        if batched:
            config |= {"linger.ms": LINGER_MS, "batch.size": BATCH_BYTES, "compression.type": COMPRESSION}
        self.producer = Producer(config)

    def delivered(self, error, _message):
        if error is not None:
            sys.exit(f"failed to deliver a record: {error}")

    def send(self, topic, key, value):
        self.producer.produce(topic, value, key, on_delivery=self.delivered)

    def flush(self):
        if left := self.producer.flush(30):
            sys.exit(f"failed to deliver {left} records")

    def check_deliveries(self):
        self.producer.poll(0)


def users(path, records):
    with open(path, encoding="utf-8") as lines:
        distinct = [json.loads(line) for line in itertools.islice(lines, min(records, DISTINCT_USERS))]
    return itertools.islice(itertools.cycle(distinct), records)


def produce(client, topic, users, batched):
    for user in users:
        client.send(topic, user["id"].encode(), json.dumps(user).encode("utf-8"))
        client.check_deliveries() if batched else client.flush()
    client.flush()


def peak_mib():
    """Peak memory of this process. `getrusage` would return the parent's if that is larger."""
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def main():
    name, mode, brokers, topic, path, records = sys.argv[1:]
    batched = mode == "batched"
    client = {"kafka-python": KafkaPython, "confluent-kafka": ConfluentKafka}[name](brokers, batched)
    records_to_send = users(path, int(records))
    # The first record waits for the topic's metadata.
    produce(client, topic, itertools.islice(records_to_send, 1), batched)
    started, cpu = time.monotonic(), time.process_time()
    produce(client, topic, records_to_send, batched)
    cost = {
        "rows": int(records) - 1,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": peak_mib(),
    }
    print(json.dumps(cost))


main()
