//! What an operator can set, with the default of each value and the rules between them. The README lists the keys.
//!
//! Reads nothing itself: files and environment are `service::config`'s.

use serde::{Deserialize, Serialize};
use service::access::ListenPolicy;
use service::config::{ConfigError, Settings};
use service::{AuthSettings, Backoff, ProcessSettings};

mod api;
mod publisher;
mod run;
mod schedule;
mod source;

pub use api::ApiSettings;
pub use publisher::PublisherSettings;
pub use run::{RetentionSettings, RunSettings, StateSettings};
pub use schedule::{CatchUp, ConcurrencyPolicy, ScheduleSettings};
pub use source::{CircuitBreakerSettings, RateLimitSettings, SourceSettings};

/// The settings of the ingester.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct IngesterSettings {
    /// Admin port, grace time, logs.
    pub process: ProcessSettings,
    /// The random-user API.
    pub source: SourceSettings,
    /// Where records go.
    pub publisher: PublisherSettings,
    /// What one run does.
    pub run: RunSettings,
    /// When runs start.
    pub schedule: ScheduleSettings,
    /// What outlives the process.
    pub state: StateSettings,
    /// The API of `ingester run`.
    pub api: ApiSettings,
    /// Who may use that API.
    pub auth: AuthSettings,
}

impl Default for IngesterSettings {
    fn default() -> Self {
        Self {
            process: ProcessSettings::on_port(9081),
            source: SourceSettings::default(),
            publisher: PublisherSettings::default(),
            run: RunSettings::default(),
            schedule: ScheduleSettings::default(),
            state: StateSettings::default(),
            api: ApiSettings::default(),
            auth: AuthSettings::default(),
        }
    }
}

impl Settings for IngesterSettings {
    const SERVICE: &'static str = "ingester";

    fn validate(&self) -> Result<(), ConfigError> {
        let (source, publisher) = (&self.source, &self.publisher);
        let token = publisher.token.as_ref();
        let rules = [
            (
                "source.version",
                ["1.3", "1.4"].contains(&source.version.as_str()),
                "must be 1.3 or 1.4",
            ),
            (
                "source.page_size",
                (1..=5_000).contains(&source.page_size),
                "must lie between 1 and 5000",
            ),
            (
                "source.page_size",
                u64::from(source.page_size) <= source.rate_limit.users,
                "must not exceed source.rate_limit.users: no page would ever be asked for",
            ),
            (
                "source.max_in_flight",
                source.max_in_flight > 0,
                "must be 1 or more",
            ),
            (
                "source.circuit_breaker.failures",
                source.circuit_breaker.failures > 0,
                "must be 1 or more",
            ),
            (
                "state.outbox_pages",
                self.state.outbox_pages >= source.max_in_flight,
                "must not be less than source.max_in_flight",
            ),
            (
                "state.retention.runs",
                self.state.retention.runs > 0,
                "must be 1 or more",
            ),
            ("source.attempts", source.attempts > 0, "must be 1 or more"),
            ("source.backoff.initial", sensible(source.backoff), BACKOFF),
            ("publisher.backoff.initial", sensible(publisher.backoff), BACKOFF),
            (
                "publisher.batch_size",
                (1..=1_000).contains(&publisher.batch_size),
                "must lie between 1 and 1000",
            ),
            (
                "publisher.max_in_flight",
                (1..=16).contains(&publisher.max_in_flight),
                "must lie between 1 and 16",
            ),
            (
                "publisher.token",
                token.is_none_or(|token| is_token(token.expose())),
                "must be one or more visible ASCII characters",
            ),
            ("run.users", self.run.users > 0, "must be 1 or more"),
            (
                "run.duplicate_window",
                self.run.duplicate_window >= publisher.records_in_flight(),
                "must not be less than publisher.batch_size times publisher.max_in_flight: two versions of one user could be \
                 under way at once",
            ),
        ];
        let durations = [
            ("source.connect_timeout", source.connect_timeout),
            ("source.request_timeout", source.request_timeout),
            ("source.rate_limit.window", source.rate_limit.window),
            ("publisher.connect_timeout", publisher.connect_timeout),
            ("publisher.request_timeout", publisher.request_timeout),
            ("publisher.probe_interval", publisher.probe_interval),
            ("run.timeout", self.run.timeout),
            ("run.progress_interval", self.run.progress_interval),
            ("api.reload_interval", self.api.reload_interval),
            ("schedule.interval", self.schedule.interval),
        ]
        .map(|(key, duration)| (key, !duration.is_zero(), "must be longer than nothing"));
        self.door().validate()?;
        let broken = rules.into_iter().chain(durations).find(|(_, holds, _)| !holds);
        broken.map_or(Ok(()), |(key, _, reason)| {
            Err(ConfigError::Invalid {
                key,
                reason: reason.to_owned(),
            })
        })
    }
}

impl IngesterSettings {
    fn door(&self) -> ListenPolicy<'_> {
        ListenPolicy {
            key: "api.listen",
            listen: self.api.listen,
            callers_known: self.auth.tokens_path.is_some(),
            allow_anonymous: self.api.allow_anonymous,
            remedy: "auth.tokens_path, or api.allow_anonymous to let everybody",
        }
    }
}

const BACKOFF: &str = "must be longer than nothing and not longer than the max beside it";

fn sensible(backoff: Backoff) -> bool {
    !backoff.initial.is_zero() && backoff.initial <= backoff.max
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
#[path = "settings/tests.rs"]
mod tests;
