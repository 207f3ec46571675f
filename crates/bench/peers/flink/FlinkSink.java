import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Date;
import java.util.UUID;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.java.tuple.Tuple13;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.connectors.cassandra.CassandraSink;
import org.apache.flink.streaming.connectors.cassandra.ClusterBuilder;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** Kafka to Cassandra with Flink's own connectors, in one JVM: a KafkaSource, JSON to a tuple, a CassandraSink. */
public final class FlinkSink {
    /** A user in the order of the statement's columns. */
    public static final class User
        extends Tuple13<
            UUID, String, String, String, String, String, String, String, String, String, Date, Date, Date> {}

    static final String INSERT =
        "INSERT INTO %s.%s (id, first_name, last_name, gender, address, post_code, email, username, phone, picture, dob,"
            + " registered_date, ingested_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

    public static void main(String[] arguments) throws Exception {
        StreamExecutionEnvironment flink = StreamExecutionEnvironment.getExecutionEnvironment();
        flink.setParallelism(setting("PARALLELISM", 2));
        flink.enableCheckpointing(setting("CHECKPOINT_MS", 10_000));
        flink.getCheckpointConfig().setCheckpointStorage("file://" + System.getenv("CHECKPOINT"));
        // No operator keeps a record after forwarding it.
        flink.getConfig().enableObjectReuse();
        KafkaSource<User> source =
            KafkaSource.<User>builder()
                .setBootstrapServers(System.getenv("BROKERS"))
                .setTopics(System.getenv("TOPIC"))
                .setGroupId(System.getenv("GROUP"))
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setDeserializer(new Records())
                .build();
        DataStream<User> users =
            flink.fromSource(source, WatermarkStrategy.noWatermarks(), "users");
        CassandraSink.addSink(users)
            .setQuery(String.format(INSERT, System.getenv("KEYSPACE"), System.getenv("TABLE")))
            .setClusterBuilder(new Nodes(System.getenv("CASSANDRA")))
            .setMaxConcurrentRequests(setting("IN_FLIGHT", 256))
            .build();
        flink.execute("users");
    }

    private static int setting(String name, int otherwise) {
        String value = System.getenv(name);
        return value == null ? otherwise : Integer.parseInt(value);
    }

    /** JSON to a tuple; ingested_at is Kafka's timestamp. */
    static final class Records implements KafkaRecordDeserializationSchema<User> {
        private static final ObjectMapper JSON = new ObjectMapper();

        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<User> out) throws java.io.IOException {
            JsonNode json = JSON.readTree(new String(record.value(), StandardCharsets.UTF_8));
            User user = new User();
            user.f0 = UUID.fromString(json.get("id").asText());
            user.f1 = json.get("first_name").asText();
            user.f2 = json.get("last_name").asText();
            user.f3 = json.get("gender").asText();
            user.f4 = json.get("address").asText();
            user.f5 = json.get("post_code").asText();
            user.f6 = json.get("email").asText();
            user.f7 = json.get("username").asText();
            user.f8 = json.get("phone").asText();
            user.f9 = json.get("picture").asText();
            user.f10 = Date.from(Instant.parse(json.get("dob").asText()));
            user.f11 = json.has("registered_date") ? Date.from(Instant.parse(json.get("registered_date").asText())) : null;
            user.f12 = new Date(record.timestamp());
            out.collect(user);
        }

        @Override
        public TypeInformation<User> getProducedType() {
            return TypeInformation.of(User.class);
        }
    }

    /** Connects to the cluster through one of its nodes. */
    static final class Nodes extends ClusterBuilder {
        private final String node;

        Nodes(String node) {
            this.node = node;
        }

        @Override
        protected com.datastax.driver.core.Cluster buildCluster(com.datastax.driver.core.Cluster.Builder builder) {
            int colon = node.lastIndexOf(':');
            var options =
                new com.datastax.driver.core.QueryOptions()
                    .setConsistencyLevel(com.datastax.driver.core.ConsistencyLevel.LOCAL_QUORUM);
            return builder
                .addContactPoint(node.substring(0, colon))
                .withPort(Integer.parseInt(node.substring(colon + 1)))
                .withQueryOptions(options)
                .build();
        }
    }
}
