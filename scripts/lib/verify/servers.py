"""Reads topics from Kafka and rows from Cassandra."""
import ssl
import uuid

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.protocol import ResultMessage, _ProtocolHandler, read_int
from cassandra.query import SimpleStatement
from check import column_names
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from evidence import Record, Table, Topic

TIMEOUT = 30.0  # seconds, of each request
FETCH = 1_000  # records
PAGE = 2_000  # rows


class ReadError(Exception):
    """A server that does not have what is to be verified."""


class Kafka:
    """A client that reads what is committed, and stores no offsets."""

    def __init__(self, brokers, properties):
        client = {"bootstrap.servers": brokers, **properties}
        self.admin = AdminClient(client)
        self.consumer = Consumer(
            client
            | {
                "group.id": "affluent-verify",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 16_384,
            }
        )

    def topic(self, name):
        return Topic(name, self.topic_id(name), self.ranges(name), lambda partition: self.records(name, partition))

    def topic_id(self, name):
        description = self.admin.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT)[name].result()
        if description.topic_id is None:
            return None
        parts = (description.topic_id.get_most_significant_bits(), description.topic_id.get_least_significant_bits())
        high, low = (part & (2**64 - 1) for part in parts)
        return str(uuid.UUID(int=high << 64 | low))

    def ranges(self, name):
        """The first and the end offset of each partition."""
        metadata = self.consumer.list_topics(name, timeout=TIMEOUT).topics[name]
        if metadata.error:
            raise ReadError(f"failed to read the topic {name}: {metadata.error}")
        return {partition: self.range(name, partition) for partition in sorted(metadata.partitions)}

    def range(self, name, partition):
        found = self.consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=TIMEOUT)
        if found is None:
            raise ReadError(f"partition {partition} of {name} does not respond")
        return found

    def records(self, name, partition):
        """Iterates over a partition up to its present end."""
        low, high = self.range(name, partition)
        if low == high:
            return
        try:
            yield from self.fetch(name, partition, low, high)
        finally:
            # Else the client fetches further records meanwhile.
            self.consumer.unassign()

    def fetch(self, name, partition, low, high):
        self.consumer.assign([TopicPartition(name, partition, low)])
        waited = 0
        while waited < TIMEOUT:
            messages = self.consumer.consume(FETCH, timeout=1.0)
            waited = 0 if messages else waited + 1
            for message in messages:
                if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                    return
                if message.error():
                    raise KafkaException(message.error())
                if message.offset() >= high:
                    return
                _, timestamp = message.timestamp()
                yield Record(
                    partition, message.offset(), timestamp, message.key(), message.value(), message.headers() or []
                )
        raise ReadError(f"partition {partition} of {name} returns no records")


class RawResult(ResultMessage):
    """Leaves the values as the bytes that the server sent."""

    def recv_results_rows(self, f, protocol_version, user_type_map, result_metadata, column_encryption_policy):
        self.recv_results_metadata(f, user_type_map)
        metadata = self.column_metadata or result_metadata
        self.column_names = [column[2] for column in metadata]
        self.column_types = [column[3] for column in metadata]
        self.parsed_rows = [self.recv_row(f, len(metadata)) for _ in range(read_int(f))]


class RawHandler(_ProtocolHandler):
    message_types_by_opcode = _ProtocolHandler.message_types_by_opcode | {RawResult.opcode: RawResult}


class Cassandra:
    """A session whose rows are lists of bytes."""

    def __init__(self, contact_points, consistency, username=None, password=None, ca=None):
        points = [(it if ":" in it else f"{it}:9042").rpartition(":") for it in contact_points.split(",")]
        level = ConsistencyLevel.name_to_value[consistency.upper()]
        profile = ExecutionProfile(
            consistency_level=level, request_timeout=TIMEOUT, row_factory=lambda names, rows: rows
        )
        self.cluster = Cluster(
            [host.strip("[]") for host, _, _ in points],
            port=int(points[0][2]),
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            auth_provider=PlainTextAuthProvider(username, password) if username else None,
            ssl_context=ssl.create_default_context(cafile=ca) if ca else None,
        )
        self.session = self.cluster.connect()
        self.session.client_protocol_handler = RawHandler

    def table(self, contract, keyspace, name):
        """Checks that the table has the contract's primary key and columns."""
        tables = self.cluster.metadata.keyspaces[keyspace].tables if keyspace in self.cluster.metadata.keyspaces else {}
        if name not in tables:
            raise ReadError(f"there is no table {keyspace}.{name}")
        table, columns = tables[name], column_names(contract)
        if [column.name for column in table.primary_key] != contract.primary_key:
            raise ReadError(f"{keyspace}.{name} has another primary key than the contract")
        for column in columns:
            if column not in table.columns:
                raise ReadError(f"{keyspace}.{name} has no column {column}")
        text_instants = {
            field.name
            for field in contract.fields
            if field.type == "timestamp" and field.presence in ("required", "optional")
            and table.columns[field.name].cql_type == "text"
        }  # fmt: skip
        selected = [*map(quoted, contract.primary_key + columns), *(f"WRITETIME({quoted(it)})" for it in columns)]
        query = f"SELECT {', '.join(selected)} FROM {quoted(keyspace)}.{quoted(name)}"
        return Table(text_instants, self.rows(query))

    def rows(self, query):
        yield from self.session.execute(SimpleStatement(query, fetch_size=PAGE))

    def close(self):
        self.cluster.shutdown()


def quoted(name):
    return '"' + name.replace('"', '""') + '"'
