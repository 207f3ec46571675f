import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.from_json;

import org.apache.spark.sql.Column;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.streaming.Trigger;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructType;

/**
 * The original pipeline's streaming job: Kafka from the earliest offset, JSON by its own schema, Cassandra through the
 * connector's streaming sink, a checkpoint folder. System properties configure Spark, environment variables the job. It runs
 * until it is stopped.
 */
public final class SparkSink {
    private static final String[] TEXTS = {
        "id", "first_name", "last_name", "gender", "address", "post_code", "email", "username", "phone", "picture",
    };

    public static void main(String[] arguments) throws Exception {
        SparkSession spark = SparkSession.builder().appName("SparkDataStreaming").getOrCreate();
        spark.sparkContext().setLogLevel("WARN");
        Dataset<Row> users = users(topic(spark));
        users.writeStream()
            .format("org.apache.spark.sql.cassandra")
            .option("keyspace", System.getenv("KEYSPACE"))
            .option("table", System.getenv("TABLE"))
            .option("checkpointLocation", System.getenv("CHECKPOINT"))
            .trigger(Trigger.ProcessingTime("0 seconds"))
            .start()
            .awaitTermination();
    }

    private static Dataset<Row> topic(SparkSession spark) {
        return spark.readStream()
            .format("kafka")
            .option("kafka.bootstrap.servers", System.getenv("BROKERS"))
            .option("subscribe", System.getenv("TOPIC"))
            .option("startingOffsets", "earliest")
            .load();
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
}
