import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.ConnectRecord;
import org.apache.kafka.connect.transforms.Transformation;

/**
 * Converts JSON without a schema, as Connect's converter reads it, to the values of the prepared statement. Camel binds a list
 * unchanged; it converts no text to a uuid or a timestamp.
 */
public final class UserRow<R extends ConnectRecord<R>> implements Transformation<R> {
    private static final String[] TEXTS = {
        "first_name", "last_name", "gender", "address", "post_code", "email", "username", "phone", "picture",
    };

    @Override
    public R apply(R record) {
        Map<?, ?> user = (Map<?, ?>) record.value();
        List<Object> row = new ArrayList<>(13);
        row.add(UUID.fromString((String) user.get("id")));
        for (String name : TEXTS) {
            row.add(String.valueOf(user.get(name)));
        }
        row.add(instant(user.get("dob")));
        row.add(instant(user.get("registered_date")));
        row.add(Instant.ofEpochMilli(record.timestamp()));
        return record.newRecord(
            record.topic(), record.kafkaPartition(), record.keySchema(), record.key(), null, row, record.timestamp());
    }

    private static Instant instant(Object text) {
        return text == null ? null : Instant.parse((String) text);
    }

    @Override
    public ConfigDef config() {
        return new ConfigDef();
    }

    @Override
    public void configure(Map<String, ?> settings) {}

    @Override
    public void close() {}
}
