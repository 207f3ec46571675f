import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.from_json;

import org.apache.spark.sql.Column;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.streaming.DataStreamWriter;
import org.apache.spark.sql.streaming.Trigger;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructType;

/**
 * The original pipeline's streaming job: Kafka from the earliest offset, the JSON by a schema of its own, Cassandra
 * through the connector's streaming sink, a checkpoint folder. Spark's own settings come as system properties, the place
 * of work in the environment. It runs until it is told to end.
 */
public final class SparkSink {
    private static final String[] TEXTS = {
        "id", "first_name", "last_name", "gender", "address", "post_code", "email", "username", "phone", "picture",
    };

    public static void main(String[] arguments) throws Exception {
        SparkSession spark = SparkSession.builder().appName("SparkDataStreaming").getOrCreate();
        spark.sparkContext().setLogLevel("WARN");
        Dataset<Row> users = users(topic(spark));
        String sink = System.getenv().getOrDefault("SINK", "streaming");
        DataStreamWriter<Row> writer =
            "batch".equals(sink)
                ? users.writeStream().foreachBatch((batch, number) -> { toCassandra(batch); })
                : users.writeStream()
                    .format("org.apache.spark.sql.cassandra")
                    .option("keyspace", System.getenv("KEYSPACE"))
                    .option("table", System.getenv("TABLE"));
        writer
            .option("checkpointLocation", System.getenv("CHECKPOINT"))
            .trigger(Trigger.ProcessingTime(System.getenv().getOrDefault("TRIGGER", "0 seconds")))
            .start()
            .awaitTermination();
    }

    private static Dataset<Row> topic(SparkSession spark) {
        var reader =
            spark.readStream()
                .format("kafka")
                .option("kafka.bootstrap.servers", System.getenv("BROKERS"))
                .option("subscribe", System.getenv("TOPIC"))
                .option("startingOffsets", "earliest");
        String most = System.getenv("MAX_OFFSETS_PER_TRIGGER");
        return (most == null ? reader : reader.option("maxOffsetsPerTrigger", most)).load();
    }

    private static Dataset<Row> users(Dataset<Row> topic) {
        Column user = from_json(col("value").cast("string"), schema()).as("user");
        return topic.select(user, col("timestamp").as("ingested_at")).select("user.*", "ingested_at");
    }

    private static StructType schema() {
        StructType schema = new StructType();
        for (String name : TEXTS) {
            schema = schema.add(name, DataTypes.StringType, false);
        }
        return schema
            .add("registered_date", DataTypes.TimestampType, true)
            .add("dob", DataTypes.TimestampType, false);
    }

    private static void toCassandra(Dataset<Row> batch) {
        batch
            .write()
            .format("org.apache.spark.sql.cassandra")
            .option("keyspace", System.getenv("KEYSPACE"))
            .option("table", System.getenv("TABLE"))
            .mode("append")
            .save();
    }
}
