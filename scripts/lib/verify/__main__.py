"""Verifies a pipeline from outside: reads topic, dead letters and table by the contract's text alone."""
import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
USER = ROOT / "proto-schema" / "affluent" / "users" / "v1" / "user.proto"
ORDER = ROOT / "examples" / "orders" / "orders.proto"


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/verify",
        description=__doc__ + " The pipeline must be at rest: no producer, and no lag.",
        epilog="The last line of output is one line of JSON. Exit codes: 0 no violation, 1 violations, 2 not verified.",
    )
    parser.add_argument("--proto", type=Path, default=USER, help="the contract [default: the compiled-in user]")
    parser.add_argument("--include", action="append", default=[], help="a folder of its imports; may be repeated")
    parser.add_argument("--message", help="the message, if several have the option record")
    parser.add_argument("--brokers", default="127.0.0.1:9092", help="[default: %(default)s]")
    parser.add_argument("--kafka-property", action="append", default=[], metavar="NAME=VALUE",
                        help="a property of librdkafka, such as security.protocol=ssl; may be repeated")  # fmt: skip
    parser.add_argument("--topic", help="[default: the contract's resource and _created]")
    parser.add_argument("--dead-letter-topic", help="[default: the topic and .dead_letter]")
    parser.add_argument("--contact-points", default="127.0.0.1:9042", help="[default: %(default)s]")
    parser.add_argument("--username", help="of Cassandra; the password is in VERIFY_CASSANDRA_PASSWORD")
    parser.add_argument("--ca", help="certificate authorities of Cassandra's nodes, PEM; enables TLS")
    parser.add_argument("--consistency", default="local_quorum", help="of reads [default: %(default)s]")
    parser.add_argument("--keyspace", default="spark_streams", help="[default: %(default)s]")
    parser.add_argument("--table", help="[default: created_ and the contract's resource]")
    parser.add_argument("--row-ttl", type=float, metavar="SECONDS", help="the streamer's cassandra.row_ttl")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="violations to print [default: %(default)s]")
    parser.add_argument("--demo", choices=["users", "orders"], help="run scripts/demo, and verify its pipeline")
    parser.add_argument("--users", type=int, default=500, metavar="N", help="of the demo [default: %(default)s]")
    parser.add_argument("--self-test", action="store_true", help="find 1,000 corruptions of generated data; no server")
    return parser.parse_args()


def main():
    options = arguments()
    if options.self_test:
        import self_test

        return self_test.main(ROOT)
    started = time.monotonic()
    from check import Settings
    from proto import ContractError, load

    try:
        if options.demo:
            options.proto = {"users": USER, "orders": ORDER}[options.demo]
        contract = load(options.proto, options.include, options.message)
        ttl = None if options.row_ttl is None else round(options.row_ttl * 1000)
        report = read_servers(contract, Settings(round(time.time() * 1000), ttl), options)
    except (ContractError, OSError) as error:
        return not_verified(error)
    for text in report.kept:
        print(text)
    if report.violations > len(report.kept):
        print(f"and {report.violations - len(report.kept)} more")
    print(json.dumps({"records": report.records, "rows": report.rows, "dead_letters": report.dead_letters,
                      "violations": report.violations, "seconds": round(time.monotonic() - started, 1)}))  # fmt: skip
    return 1 if report.violations else 0


def read_servers(contract, settings, options):
    from cassandra import DriverException
    from cassandra.cluster import NoHostAvailable
    from confluent_kafka import KafkaException
    from servers import ReadError

    try:
        if options.demo:
            import demo

            return demo.run(ROOT, options.demo, contract, options.users)
        return verify_pipeline(contract, settings, options)
    except (KafkaException, DriverException, NoHostAvailable, ReadError) as error:
        sys.exit(not_verified(error))


def verify_pipeline(contract, settings, options):
    from check import Report, verify
    from servers import Cassandra, Kafka, ReadError

    kafka = Kafka(options.brokers, dict(each.split("=", 1) for each in options.kafka_property))
    topic = kafka.topic(options.topic or contract.topic)
    letters = kafka.topic(options.dead_letter_topic or f"{topic.name}.dead_letter")
    password = os.environ.get("VERIFY_CASSANDRA_PASSWORD")
    cassandra = Cassandra(options.contact_points, options.consistency, options.username, password, options.ca)
    table = cassandra.table(contract, options.keyspace, options.table or contract.table)
    report = verify(contract, topic, letters, table, settings, Report(keep=options.show))
    cassandra.close()
    if kafka.ranges(topic.name) != topic.ranges or kafka.ranges(letters.name) != letters.ranges:
        raise ReadError("the topics changed while they were read; stop the producers")
    return report


def not_verified(error):
    print(f"verify: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
