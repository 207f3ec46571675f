//! The settings: their defaults and the rules between them. The README lists the keys.
//!
//! `service::config` reads the file and the environment.

use serde::{Deserialize, Serialize};
use service::config::{Settings, Violations};
use service::http::listen_policy::ListenPolicy;
use service::{AuthSettings, ProcessSettings, TelemetrySettings};

mod api;
mod pipeline;
mod publisher;
mod run;
mod schedule;
mod source;
mod webhook;

pub use api::ApiSettings;
pub use pipeline::PipelineSettings;
pub use publisher::PublisherSettings;
pub use run::{RetentionSettings, RunSettings, StateSettings};
pub use schedule::{CatchUp, ConcurrencyPolicy, ScheduleSettings};
pub use source::{CircuitBreakerSettings, RateLimitSettings, SourceSettings};
pub use webhook::WebhookSettings;

/// The settings of the ingester.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct IngesterSettings {
    /// Admin port, shutdown, logs.
    pub process: ProcessSettings,
    /// Export of traces.
    pub telemetry: TelemetrySettings,
    /// Requests to the random-user API.
    pub source: SourceSettings,
    /// Requests to the publisher.
    pub publisher: PublisherSettings,
    /// The size and limits of a run.
    pub run: RunSettings,
    /// When runs start.
    pub schedule: ScheduleSettings,
    /// Persistent state.
    pub state: StateSettings,
    /// The API of `ingester run`.
    pub api: ApiSettings,
    /// The admin ports of the other services.
    pub pipeline: PipelineSettings,
    /// Notification of failed runs.
    pub webhook: WebhookSettings,
    /// Who may use that API.
    pub auth: AuthSettings,
}

impl Default for IngesterSettings {
    fn default() -> Self {
        Self {
            process: ProcessSettings::on_port(9081),
            telemetry: TelemetrySettings::default(),
            source: SourceSettings::default(),
            publisher: PublisherSettings::default(),
            run: RunSettings::default(),
            schedule: ScheduleSettings::default(),
            state: StateSettings::default(),
            api: ApiSettings::default(),
            pipeline: PipelineSettings::default(),
            webhook: WebhookSettings::default(),
            auth: AuthSettings::default(),
        }
    }
}

impl Settings for IngesterSettings {
    const SERVICE: &'static str = "ingester";
    const REFERENCE: &'static str = include_str!("../README.md");
    const MAY_BE_ZERO: &'static [&'static str] = &["schedule.jitter", "schedule.retry_delay"];

    fn validate(&self) -> Violations {
        let mut violations = Violations::default();
        let found = &mut violations;
        self.process.validate(found);
        self.telemetry.validate(found);
        self.auth.validate(found);
        self.listen_policy().validate(found);
        self.source.validate(found);
        self.publisher.validate(found);
        self.run.validate(found);
        self.pipeline.validate(found);
        self.schedule.validate(found);
        self.state.validate(found);
        self.webhook.validate(found);
        found.require(
            u64::from(self.source.page_size) <= self.source.rate_limit.users,
            "source.page_size",
            "must not exceed source.rate_limit.users, or no page is ever requested",
        );
        let expected = self
            .source
            .rate_limit
            .min_duration(self.run.users, self.source.page_size);
        found.require(
            expected < self.run.timeout,
            "run.timeout",
            &format!(
                "must exceed the {} that run.users take at source.rate_limit",
                service::duration::format(expected)
            ),
        );
        found.require(
            self.state.outbox_pages >= self.source.max_in_flight,
            "state.outbox_pages",
            "must not be below source.max_in_flight",
        );
        found.require(
            self.run.duplicate_window >= self.publisher.records_in_flight(),
            "run.duplicate_window",
            "must not be below publisher.batch_size times publisher.max_in_flight, or two versions of one user could be \
             in flight at once",
        );
        violations
    }

    fn check_files(&self) -> Violations {
        let mut violations = Violations::default();
        self.auth.check_files(&mut violations);
        violations
    }
}

impl IngesterSettings {
    fn listen_policy(&self) -> ListenPolicy<'_> {
        ListenPolicy {
            key: "api.listen",
            listen: self.api.listen,
            callers_known: self.auth.requires_token(),
            allow_anonymous: self.api.allow_anonymous,
            remedy: "auth.tokens_path, auth.jwt.issuer, or api.allow_anonymous to accept anonymous callers",
        }
    }
}

#[cfg(test)]
mod tests;
