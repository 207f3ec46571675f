//! The evidence of a failed round as JSON, for debugging. Bytes are shown as text.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::kafka_client::TopicRecord;
use testkit::rows::RowId;

use super::{AckedRecord, CheckpointSample, Evidence};

/// All of it, except what was only sent.
pub(crate) fn to_json(evidence: &Evidence) -> Value {
    let list = |records: &[TopicRecord]| records.iter().map(record).collect::<Vec<_>>();
    let rows = evidence.rows.iter();
    let health = evidence.health.iter();
    let ledgers = evidence.run_ledgers.iter();
    json!({
        "topic": evidence.topic,
        "topic_id": evidence.topic_id.map(|id| id.to_string()),
        "log": list(&evidence.log),
        "unread": list(&evidence.lost.unread),
        "dead_letters": list(&evidence.dead_letters),
        "rows": rows
            .map(|(id, row)| json!({"id": id.to_string(), "columns": row.columns, "write_timestamps": row.stamps}))
            .collect::<Vec<_>>(),
        "ends": evidence.ends,
        "acked": evidence.acked.iter().map(acked).collect::<Vec<_>>(),
        "runs": evidence.runs,
        "run_ledgers": ledgers
            .map(|(run, ledger)| (run.to_string(), ledger))
            .collect::<BTreeMap<_, _>>(),
        "incidents": evidence.incidents,
        "checkpoints": evidence.checkpoints.iter().map(checkpoint).collect::<Vec<_>>(),
        "health": health.map(|(id, samples)| (id.to_string(), samples)).collect::<BTreeMap<_, _>>(),
    })
}

fn text(bytes: Option<&Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn record(record: &TopicRecord) -> Value {
    let headers = record.headers.iter();
    json!({
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": text(record.key.as_ref()),
        "value": text(record.value.as_ref()),
        "headers": headers.map(|(name, value)| (name, text(Some(value)))).collect::<BTreeMap<_, _>>(),
    })
}

fn acked(record: &AckedRecord) -> Value {
    json!({
        "key": record.key.as_ref().map(ToString::to_string),
        "value": text(record.value.as_ref()),
        "position": record.position,
    })
}

fn checkpoint(sample: &CheckpointSample) -> Value {
    let timestamps = sample.write_timestamps.iter();
    let timestamps = timestamps.map(|(id, timestamp): (&RowId, _)| (id.to_string(), timestamp));
    json!({
        "at_ms": sample.at_ms,
        "read_at_ms": sample.read_at_ms,
        "reset": sample.reset,
        "next_offsets": sample.next_offsets,
        "write_timestamps": timestamps.collect::<BTreeMap<_, _>>(),
        "dead_letters": sample.dead_letters,
    })
}
