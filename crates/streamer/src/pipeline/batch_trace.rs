//! The spans of a durable micro-batch. For each sampled trace with records in it there are two: `micro-batch`, from the
//! receipt of its first record, with links to the spans that produced the records, and `write` below it.
//!
//! The records' headers are their only source. So records that are read again, by this or another member, have the same
//! links. A micro-batch that was not durable has no span.

use std::collections::BTreeMap;
use std::time::Instant;

use model::headers::kafka::TRACEPARENT;
use service::trace::{Kind, TraceContext, TraceId, Tracer};

use crate::pipeline::batch_builder::Operation;

/// The sampled traces of a micro-batch.
pub(super) struct BatchTraces {
    /// The number of records of each span that produced some.
    producers: Vec<(TraceContext, usize)>,
    /// The longest time from fetching a record of a trace until it was durable, in microseconds.
    pub(super) slowest: Option<(i64, TraceId)>,
}

impl BatchTraces {
    /// Reads the traces of a micro-batch. Without tracing no header is read. `durable_at`: when each record was durable, in
    /// microseconds since 1970.
    pub(super) fn of(tracer: &Tracer, operations: &[Operation], durable_at: &[i64]) -> Option<Self> {
        if !tracer.is_on() {
            return None;
        }
        let mut producers = BTreeMap::new();
        let mut slowest = None;
        for (operation, durable_at) in operations.iter().zip(durable_at) {
            let producer = producer(operation).filter(|producer| tracer.samples(producer.trace));
            let Some(producer) = producer else {
                continue;
            };
            *producers.entry(producer).or_default() += 1;
            let fetched_at = operation.fetched_at;
            slowest = slowest.max(fetched_at.map(|fetched_at| (durable_at - fetched_at, producer.trace)));
        }
        (!producers.is_empty()).then(|| Self {
            producers: producers.into_iter().collect(),
            slowest,
        })
    }

    /// One of the traces.
    pub(super) fn any(&self) -> TraceId {
        self.producers[0].0.trace
    }

    /// Exports the spans of a micro-batch that is durable now, whose first record was `received`, and whose write has
    /// `started`.
    pub(super) fn export(&self, tracer: &Tracer, received: Instant, started: Instant) {
        for producers in self
            .producers
            .chunk_by(|(left, _), (right, _)| left.trace == right.trace)
        {
            let (parent, _) = producers[0];
            let Some(mut batch) = tracer.child("micro-batch", Kind::Consumer, &parent) else {
                continue;
            };
            batch.started_before(received.elapsed());
            let records: usize = producers.iter().map(|(_, records)| records).sum();
            batch.set("messaging.batch.message_count", records);
            producers.iter().for_each(|(producer, _)| batch.link(*producer));
            if let Some(mut write) = tracer.child("write", Kind::Client, &batch.context()) {
                write.set("db.system.name", "cassandra");
                write.started_before(started.elapsed());
            }
        }
    }
}

/// The span that produced a record, if its trace is sampled.
fn producer(operation: &Operation) -> Option<TraceContext> {
    let mut headers = operation.raw.headers();
    let (_, traceparent) = headers.find(|(name, _)| *name == TRACEPARENT.as_bytes())?;
    TraceContext::parse(traceparent?).filter(|producer| producer.sampled)
}

#[cfg(test)]
mod tests {
    use service::{Metrics, TelemetrySettings};

    use super::*;
    use crate::pipeline::consumed_record::{Change, Rejection};
    use crate::pipeline::raw_record::RawRecord;

    const TRACES: [&str; 2] = [
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "0195d0b17a4c7f3e9b1a2c3d4e5f6071",
    ];

    fn operation(traceparent: Option<&str>, fetched_at: i64) -> Operation {
        let header = traceparent.map(|text| (TRACEPARENT.as_bytes(), Some(text.as_bytes())));
        let change = Change::Reject(Rejection {
            reason: "test",
            error: String::new(),
        });
        Operation {
            partition: 0,
            offset: 0,
            timestamp: 0,
            write_timestamp: 0,
            change,
            run: None,
            fetched_at: Some(fetched_at),
            raw: RawRecord::copy(None, None, header.into_iter()),
        }
    }

    fn tracer() -> Tracer {
        let settings = TelemetrySettings {
            otlp_endpoint: Some("http://127.0.0.1:9".to_owned()),
            ..TelemetrySettings::default()
        };
        Tracer::start("streamer", &settings, &Metrics::new("streamer")).unwrap()
    }

    #[tokio::test]
    async fn sampled_producers_of_the_records_are_counted() {
        let span =
            |trace: usize, span: u8, flags: u8| format!("00-{}-{span:016x}-{flags:02x}", TRACES[trace]);
        let operations = [
            operation(Some(&span(0, 1, 1)), 40),
            operation(None, 10),
            operation(Some(&span(1, 7, 1)), 20),
            operation(Some(&span(0, 1, 1)), 30),
            operation(Some(&span(0, 2, 0)), 5),
            operation(Some("unreadable"), 5),
        ];
        let durable_at = [50; 6];
        let traces = BatchTraces::of(&tracer(), &operations, &durable_at).unwrap();
        let producers = traces.producers.iter();
        let producers: Vec<_> = producers
            .map(|(producer, records)| (producer.traceparent(), *records))
            .collect();
        assert_eq!(producers, [(span(1, 7, 1), 1), (span(0, 1, 1), 2)]);
        let (latency, trace) = traces.slowest.unwrap();
        assert_eq!((latency, trace.to_string().as_str()), (30, TRACES[1]));
        let traces = BatchTraces::of(&tracer(), &operations, &[80, 50, 50, 50, 90, 90]).unwrap();
        let (latency, trace) = traces.slowest.unwrap();
        assert_eq!((latency, trace.to_string().as_str()), (40, TRACES[0]));
        assert!(BatchTraces::of(&tracer(), &operations[4..], &durable_at).is_none());
        assert!(BatchTraces::of(&Tracer::default(), &operations, &durable_at).is_none());
    }
}
