"""The original's producer loop: a user after the other as JSON to Kafka, each flushed before the next; and the same loop
batched, as the client's documentation advises. Prints what it cost as one line of JSON, without connecting and reading.

usage: produce.py CLIENT HABIT BROKERS TOPIC FILE RECORDS
CLIENT: kafka-python | confluent-kafka; HABIT: each | batched; FILE: a user a line, as JSON.
"""

import itertools
import json
import os
import sys
import time

# Tried by the sweep; the original sets none of them.
LINGER_MS = int(os.environ.get("LINGER_MS", "20"))
BATCH_BYTES = int(os.environ.get("BATCH_BYTES", "1048576"))
COMPRESSION = os.environ.get("COMPRESSION", "lz4")

# So many users are held; more records than that are the same ones again.
HELD = 10_000


class KafkaPython:
    def __init__(self, brokers, batched):
        from kafka import KafkaProducer

        more = {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES} if batched else {}
        if batched and COMPRESSION != "none":
            more["compression_type"] = COMPRESSION
        self.producer = KafkaProducer(bootstrap_servers=brokers.split(","), acks="all", **more)
        self.sent = []

    def send(self, topic, key, value):
        self.sent.append(self.producer.send(topic, value, key=key))

    def flush(self):
        self.producer.flush()
        for delivery in self.sent:
            delivery.get(timeout=30)
        self.sent.clear()

    def settle(self):
        """Failures are looked at now and then, so that what was sent need not be kept."""
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
            sys.exit(f"not delivered: {error}")

    def send(self, topic, key, value):
        self.producer.produce(topic, value, key, on_delivery=self.delivered)

    def flush(self):
        if left := self.producer.flush(30):
            sys.exit(f"{left} records are not delivered")

    def settle(self):
        self.producer.poll(0)


def users(path, records):
    with open(path, encoding="utf-8") as lines:
        held = [json.loads(line) for line in itertools.islice(lines, min(records, HELD))]
    return itertools.islice(itertools.cycle(held), records)


def produce(client, topic, users, batched):
    for user in users:
        client.send(topic, user["id"].encode(), json.dumps(user).encode("utf-8"))
        client.settle() if batched else client.flush()
    client.flush()


def peak_mib():
    """The most memory of this program. `getrusage` would tell that of the process that has started it, if it is larger."""
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def main():
    name, habit, brokers, topic, path, records = sys.argv[1:]
    batched = habit == "batched"
    client = {"kafka-python": KafkaPython, "confluent-kafka": ConfluentKafka}[name](brokers, batched)
    work = users(path, int(records))
    # The first record waits for the topic's metadata.
    produce(client, topic, itertools.islice(work, 1), batched)
    started, cpu = time.monotonic(), time.process_time()
    produce(client, topic, work, batched)
    cost = {
        "rows": int(records) - 1,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": peak_mib(),
    }
    print(json.dumps(cost))


main()
