//! The evidence of a round as JSON, for whoever wants to know why a law did not hold. Bytes are shown as text.

use serde_json::{Value, json};

use super::evidence::{CheckpointSample, Evidence, Look, Obligation};
use testkit::kafka_client::TopicRecord;

/// All of it but what was only ever sent.
#[must_use]
pub fn dump(evidence: &Evidence) -> Value {
    let list = |records: &[TopicRecord]| records.iter().map(record).collect::<Vec<_>>();
    let rows = evidence.rows.iter();
    let looks = evidence.looks.iter();
    json!({
        "topic": evidence.topic,
        "topic_id": evidence.topic_id.map(|id| id.to_string()),
        "log": list(&evidence.log),
        "unread": list(&evidence.gone.unread),
        "letters": list(&evidence.letters),
        "rows": rows
            .map(|(id, row)| json!({"id": id.to_string(), "columns": row.columns, "stamps": row.stamps}))
            .collect::<Vec<_>>(),
        "ends": evidence.ends,
        "obligations": evidence.obligations.iter().map(obligation).collect::<Vec<_>>(),
        "runs": evidence.runs
            .iter()
            .map(|run| json!({"id": run.id, "state": run.state, "accepted": run.accepted}))
            .collect::<Vec<_>>(),
        "incidents": evidence.incidents,
        "samples": evidence.checkpoints.iter().map(sample).collect::<Vec<_>>(),
        "looks": looks
            .map(|(who, looks)| (who.to_string(), looks.iter().map(look).collect()))
            .collect::<serde_json::Map<String, Value>>(),
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
        "headers": headers
            .map(|(name, value)| (name.clone(), text(Some(value)).into()))
            .collect::<serde_json::Map<String, Value>>(),
    })
}

fn obligation(obligation: &Obligation) -> Value {
    json!({
        "id": obligation.id.map(|id| id.to_string()),
        "value": text(obligation.value.as_ref()),
        "place": obligation.place,
    })
}

fn sample(sample: &CheckpointSample) -> Value {
    let stamps = sample.stamps.iter();
    json!({
        "at_ms": sample.at_ms,
        "read_by": sample.read_by,
        "anew": sample.anew,
        "next": sample.next,
        "stamps": stamps
            .map(|(id, stamp)| (id.to_string(), (*stamp).into()))
            .collect::<serde_json::Map<String, Value>>(),
        "letters": sample.letters,
    })
}

fn look(look: &Look) -> Value {
    json!({
        "at": look.at,
        "ready": look.ready,
        "missing": look.missing,
        "alive": look.alive,
        "metrics": look.metrics,
    })
}
