//! What an operator can set, with the default of each value and the rules between them. The README lists the keys.
//!
//! Reads nothing itself: files and environment are `service::config`'s.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::access::Door;
use service::config::{ConfigError, Settings};
use service::{AuthSettings, Backoff, ProcessSettings, Secret};

use crate::compression::Compression;
use crate::cron::{Cron, Zone};
use crate::endpoint::Endpoint;
use crate::plan::Seed;

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

/// The API of `ingester run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiSettings {
    /// Its address.
    pub listen: SocketAddr,
    /// Whether it may listen where others can reach it without asking them who they are.
    pub allow_anonymous: bool,
    /// How often the file of tokens is looked at for changes.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub reload_interval: Duration,
}

/// How the random-user API is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceSettings {
    /// The API, with the version in its path.
    pub url: Endpoint,
    /// The version that each reply must say it is: the same uuid is another person in another version.
    pub version: String,
    /// Users per page, 1 to 5000: the API turns anything else into 1 without a word.
    pub page_size: u32,
    /// How long a connection may take to come about.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub connect_deadline: Duration,
    /// How long a request may take, from the connection to the last byte of its answer.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub request_deadline: Duration,
    /// The largest answer that is read; 5,000 users take about 5.5 MB.
    pub max_body: ByteSize,
    /// How often one page is asked for before the run fails, 1 or more.
    pub attempts: u32,
    /// The waits between those attempts.
    pub backoff: Backoff,
    /// How many pages are asked for at once, 1 or more.
    pub in_flight: usize,
    /// When an API that fails is left alone.
    pub breaker: BreakerSettings,
    /// What the API allows.
    pub budget: BudgetSettings,
}

/// When an API that fails is left alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct BreakerSettings {
    /// After so many failures in a row, 1 or more.
    pub failures: u32,
    /// For how long; then one request decides.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub pause: Duration,
}

/// The users that the API hands out to one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetSettings {
    /// Users per window.
    pub users: u64,
    /// The length of the window.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub window: Duration,
}

/// How records are handed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PublisherSettings {
    /// The publisher's API; `v1/users` is put behind it.
    pub url: Endpoint,
    /// The bearer token, when the publisher asks for one.
    pub token: Option<Secret>,
    /// Records per request, 1 to 1000.
    pub batch: usize,
    /// How requests are compressed.
    pub compression: Compression,
    /// How long a connection may take to come about.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub connect_deadline: Duration,
    /// How long a request may take. Longer than the publisher's own deadline, whose 504 says more than a lost answer.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub request_deadline: Duration,
    /// The largest answer that is read.
    pub max_answer: ByteSize,
    /// The waits between attempts, which go on until the run's deadline.
    pub backoff: Backoff,
    /// How many answers in a row that don't add up are tolerated for one request before the run fails.
    pub odd_answers: u32,
    /// How often readiness looks whether the publisher answers at all.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub probe_interval: Duration,
}

/// What one run does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSettings {
    /// How many users a run asks for.
    pub users: u64,
    /// The seed of every run; without one each run picks its own.
    pub seed: Option<Seed>,
    /// When a run is given up, counted anew by a process that takes one up. Longer than an outage of the publisher that
    /// a run should endure.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub deadline: Duration,
    /// Among how many of a run's latest users a repeated uuid is noticed. 50 bytes of memory each.
    pub duplicate_window: usize,
}

/// What outlives the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StateSettings {
    /// The SQLite file, created if absent; its folder must be there. Without one, nothing outlives the process.
    pub path: Option<PathBuf>,
    /// Pages that may wait to be delivered, those being fetched among them, at least `source.in_flight`. Without a file,
    /// two.
    pub outbox_pages: usize,
    /// Runs that are remembered, 1 or more.
    pub keep_runs: u32,
    /// For how long they are.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub keep_for: Duration,
}

/// When runs start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleSettings {
    /// A cron expression, with seconds in front or without; goes before the interval.
    pub cron: Option<Cron>,
    /// By whose clocks the cron expression goes.
    pub time_zone: Zone,
    /// From start to start, without a cron expression; the first run starts at once.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub interval: Duration,
    /// Each start comes later by a part of this, so that many ingesters don't start at once.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub jitter: Duration,
    /// Which of the starts that nobody was there for are caught up with.
    pub catch_up: CatchUp,
    /// With `all`, at most so many, the latest.
    pub catch_up_most: usize,
    /// What becomes of a start that falls into another run.
    pub overlap: Overlap,
    /// How often a failed run is tried again before the next regular start.
    pub retries: u32,
    /// How long after the failure.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub retry_delay: Duration,
}

/// Which of the starts that nobody was there for are caught up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// None.
    None,
    /// The latest one, unless the next is on time.
    Latest,
    /// All, up to `catch_up_most`.
    All,
}

/// What becomes of a start that falls into another run. Runs never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is skipped.
    Skip,
    /// One waits for the run to end; others are skipped.
    Queue,
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

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            url: Endpoint::literal("https://randomuser.me/api/1.4/"),
            version: "1.4".to_owned(),
            page_size: 5_000,
            connect_deadline: Duration::from_secs(5),
            request_deadline: Duration::from_secs(60),
            max_body: ByteSize::mib(16),
            attempts: 5,
            backoff: Backoff {
                initial: Duration::from_secs(1),
                max: Duration::from_secs(30),
            },
            in_flight: 2,
            breaker: BreakerSettings::default(),
            budget: BudgetSettings::default(),
        }
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            pause: Duration::from_secs(30),
        }
    }
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            allow_anonymous: false,
            reload_interval: Duration::from_secs(5),
        }
    }
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            path: None,
            outbox_pages: 20,
            keep_runs: 1_000,
            keep_for: Duration::from_secs(90 * 24 * 3_600),
        }
    }
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            users: 20_000,
            window: Duration::from_secs(300),
        }
    }
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            url: Endpoint::literal("http://127.0.0.1:8080/"),
            token: None,
            batch: 1_000,
            compression: Compression::Zstd,
            connect_deadline: Duration::from_secs(2),
            request_deadline: Duration::from_secs(40),
            max_answer: ByteSize::mib(1),
            backoff: Backoff {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(5),
            },
            odd_answers: 5,
            probe_interval: Duration::from_secs(2),
        }
    }
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            users: 5_000,
            seed: None,
            deadline: Duration::from_secs(4 * 3_600),
            duplicate_window: 100_000,
        }
    }
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            cron: None,
            time_zone: Zone::utc(),
            interval: Duration::from_secs(24 * 3_600),
            jitter: Duration::ZERO,
            catch_up: CatchUp::Latest,
            catch_up_most: 10,
            overlap: Overlap::Skip,
            retries: 1,
            retry_delay: Duration::from_secs(300),
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
                u64::from(source.page_size) <= source.budget.users,
                "must not exceed source.budget.users: no page would ever be asked for",
            ),
            ("source.in_flight", source.in_flight > 0, "must be 1 or more"),
            (
                "source.breaker.failures",
                source.breaker.failures > 0,
                "must be 1 or more",
            ),
            (
                "state.outbox_pages",
                self.state.outbox_pages >= source.in_flight,
                "must not be less than source.in_flight",
            ),
            ("state.keep_runs", self.state.keep_runs > 0, "must be 1 or more"),
            ("source.attempts", source.attempts > 0, "must be 1 or more"),
            ("source.backoff.initial", sensible(source.backoff), BACKOFF),
            ("publisher.backoff.initial", sensible(publisher.backoff), BACKOFF),
            (
                "publisher.batch",
                (1..=1_000).contains(&publisher.batch),
                "must lie between 1 and 1000",
            ),
            (
                "publisher.token",
                token.is_none_or(|token| is_token(token.expose())),
                "must be one or more visible ASCII characters",
            ),
            ("run.users", self.run.users > 0, "must be 1 or more"),
            (
                "run.duplicate_window",
                self.run.duplicate_window > 0,
                "must be 1 or more",
            ),
        ];
        let durations = [
            ("source.connect_deadline", source.connect_deadline),
            ("source.request_deadline", source.request_deadline),
            ("source.budget.window", source.budget.window),
            ("publisher.connect_deadline", publisher.connect_deadline),
            ("publisher.request_deadline", publisher.request_deadline),
            ("publisher.probe_interval", publisher.probe_interval),
            ("run.deadline", self.run.deadline),
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
    fn door(&self) -> Door<'_> {
        Door {
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
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut IngesterSettings)) -> String {
        let mut settings = IngesterSettings::default();
        change(&mut settings);
        settings.validate().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        IngesterSettings::default().validate().unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        assert!(refused(|s| s.source.version = "1.2".into()).starts_with("`source.version`"));
        assert!(refused(|s| s.source.page_size = 5_001).starts_with("`source.page_size`"));
        assert!(refused(|s| s.source.budget.users = 4_999).contains("source.budget.users"));
        assert!(refused(|s| s.source.attempts = 0).starts_with("`source.attempts`"));
        assert!(refused(|s| s.source.backoff.max = Duration::ZERO).starts_with("`source.backoff.initial`"));
        assert!(refused(|s| s.publisher.batch = 1_001).starts_with("`publisher.batch`"));
        assert!(refused(|s| s.publisher.token = Some(Secret::new("a b"))).starts_with("`publisher.token`"));
        assert!(refused(|s| s.source.in_flight = 0).starts_with("`source.in_flight`"));
        assert!(refused(|s| s.state.outbox_pages = 1).starts_with("`state.outbox_pages`"));
        assert!(refused(|s| s.run.users = 0).starts_with("`run.users`"));
        assert!(refused(|s| s.run.deadline = Duration::ZERO).starts_with("`run.deadline`"));
    }
}
