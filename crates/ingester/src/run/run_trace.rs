//! The spans of one run. Their ids derive from the run's id, so a resumed run continues its trace, and a batch that is sent
//! again has the same `traceparent` in every process.
//!
//! A span is exported when its work has an outcome. Work that a stop or a kill interrupts is exported by the process that
//! completes it.

use std::time::SystemTime;

use service::trace::{Kind, Span, SpanId, TraceContext, TraceId, Tracer};
use uuid::Uuid;

use crate::run::report::{Report, RunOutcome};

/// The trace of one run. Its default is that of a run without tracing.
#[derive(Clone, Default)]
pub struct RunTrace {
    tracer: Tracer,
    /// The span of the run; `None` if tracing is off.
    run: Option<TraceContext>,
}

impl RunTrace {
    /// The trace of `run`.
    #[must_use]
    pub fn new(tracer: &Tracer, run: Uuid) -> Self {
        let trace = TraceId::of_run(&run.to_string());
        let context = || TraceContext {
            trace,
            span: SpanId::derived(trace, "run", 0),
            sampled: tracer.samples(trace),
        };
        Self {
            tracer: tracer.clone(),
            run: tracer.is_on().then(context),
        }
    }

    /// Exports the span of the run, which has ended.
    pub fn record_run(&self, started: SystemTime, report: &Report) {
        let Some(mut span) = self
            .run
            .and_then(|run| self.tracer.span("run", Kind::Internal, run, None))
        else {
            return;
        };
        span.started_at(started);
        span.set("affluent.run.id", report.run.to_string().as_str());
        span.set("affluent.run.outcome", report.outcome.name());
        span.set("affluent.users.fetched", report.counts.fetched);
        span.set("affluent.records.accepted", report.counts.accepted);
        if matches!(report.outcome, RunOutcome::Failed(_)) {
            span.fail("the run failed");
        }
    }

    /// Exports the span of a page, for whose slot the fetch waited until `started`.
    pub fn record_page(&self, page: u32, started: SystemTime, is_fetched: bool) {
        let context = |run: TraceContext| run.with_span(SpanId::derived(run.trace, "page", page.into()));
        let Some(mut span) = self.below_run("page", context) else {
            return;
        };
        span.started_at(started);
        span.set("affluent.page", i64::from(page));
        if !is_fetched {
            span.fail("the page can't be fetched");
        }
    }

    /// The span of the batch of `records` records from number `first` on, for its `traceparent`. `None` if tracing is off.
    #[must_use]
    pub fn send(&self, first: u64, records: u64) -> Option<TraceContext> {
        Some(match self.run? {
            run if run.sampled => send(run, first, records),
            unsampled => unsampled,
        })
    }

    /// Exports the span of a batch whose records have an outcome.
    pub fn record_send(&self, first: u64, records: u64, started: SystemTime) {
        let Some(mut span) = self.below_run("send", |run| send(run, first, records)) else {
            return;
        };
        span.started_at(started);
        span.set("affluent.records.first", first);
        span.set("affluent.records", records);
    }

    fn below_run(
        &self,
        name: &'static str,
        context: impl FnOnce(TraceContext) -> TraceContext,
    ) -> Option<Span> {
        let run = self.run.filter(|run| run.sampled)?;
        self.tracer.span(name, Kind::Client, context(run), Some(run.span))
    }
}

/// The halves of a batch that is too large begin with the same number, so the span depends on the number of records, too.
fn send(run: TraceContext, first: u64, records: u64) -> TraceContext {
    run.with_span(SpanId::derived(run.trace, &format!("send {records}"), first))
}

#[cfg(test)]
mod tests {
    use service::{Metrics, TelemetrySettings};

    use super::*;

    fn trace(sample_ratio: f64, run: Uuid) -> RunTrace {
        let settings = TelemetrySettings {
            otlp_endpoint: Some("http://127.0.0.1:9".to_owned()),
            sample_ratio,
            ..TelemetrySettings::default()
        };
        RunTrace::new(
            &Tracer::start("ingester", &settings, &Metrics::new("ingester")).unwrap(),
            run,
        )
    }

    #[tokio::test]
    async fn batch_has_one_traceparent_in_every_process() {
        let run: Uuid = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071".parse().unwrap();
        let send = |first, records| trace(1.0, run).send(first, records).unwrap().traceparent();
        let traceparent = send(0, 100);
        assert!(
            traceparent.starts_with("00-0195d0b17a4c7f3e9b1a2c3d4e5f6071-") && traceparent.ends_with("-01")
        );
        assert_eq!(send(0, 100), traceparent);
        assert_ne!(send(100, 100), traceparent);
        assert_ne!(send(0, 50), traceparent, "the first half is another request");
    }

    #[tokio::test]
    async fn unsampled_run_says_so_and_without_tracing_there_is_no_header() {
        let run = Uuid::now_v7();
        let unsampled = trace(0.0, run).send(0, 100).unwrap();
        assert!(unsampled.traceparent().ends_with("-00"));
        assert_eq!(RunTrace::new(&Tracer::default(), run).send(0, 100), None);
    }
}
