//! The servers as a command sees them: a question is asked until it is answered or the deadline has passed, and the
//! error then names the server and what was heard last.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use service::{Backoff, Health, Metrics};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::assign;
use crate::cassandra::checkpoints::Checkpoints;
use crate::cassandra::fault::Fault;
use crate::cassandra::schema::{self, SchemaError, Verified};
use crate::cassandra::session::Live;
use crate::cassandra::sessions::Sessions;
use crate::cassandra::writer::{Refused, Write, Writer};
use crate::checkpoint::Checkpoint;
use crate::commands::error::CommandError;
use crate::kafka::broker::{Broker, Topic};
use crate::kafka::client;
use crate::kafka::scan::{self, Scan, Scanned};
use crate::metrics::StreamerMetrics;
use crate::run::instance;
use crate::settings::{KafkaSettings, NAME, Settings};

/// How long one question may remain unanswered.
const DEADLINE: Duration = Duration::from_secs(20);

/// A table that was just created is not known to every node at once.
const SCHEMA_SETTLES: Duration = Duration::from_secs(5);

/// Kafka, Cassandra and the group's checkpoints.
pub(super) struct Servers {
    settings: Settings,
    health: Health,
    sessions: Arc<Sessions>,
    broker: Arc<Broker>,
    dead_letters: Arc<Broker>,
    checkpoints: Checkpoints,
}

impl Servers {
    /// Connects lazily.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub(super) fn new(settings: Settings) -> Result<Self, CommandError> {
        let health = Health::default();
        let dependency = health.dependency("cassandra");
        let sessions = Arc::new(Sessions::new(settings.cassandra.clone(), dependency));
        let broker = |topic: &str| {
            let settings = KafkaSettings {
                topic: topic.to_owned(),
                ..settings.kafka.clone()
            };
            Broker::new(&settings).map(Arc::new).map_err(CommandError::Kafka)
        };
        let dead_letters = broker(&settings.kafka.dead_letter_topic)?;
        let broker = broker(&settings.kafka.topic)?;
        let checkpoints = Checkpoints::new(&settings, instance());
        Ok(Self {
            settings,
            health,
            sessions,
            broker,
            dead_letters,
            checkpoints,
        })
    }

    /// The configuration.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Asks Kafka about the topic or the group.
    ///
    /// # Errors
    /// When it refuses, or has not answered in time.
    pub(super) async fn kafka<T: Send + 'static>(
        &self,
        question: impl Fn(&Broker) -> Result<T, KafkaError> + Clone + Send + 'static,
    ) -> Result<T, CommandError> {
        ask(&self.broker, &self.settings.kafka.topic, question).await
    }

    /// Starts to read these offsets of the topic.
    ///
    /// # Errors
    /// When Kafka refuses the configuration.
    pub(super) fn scan(
        &self,
        ranges: impl IntoIterator<Item = (i32, Range<i64>)>,
    ) -> Result<Scan, CommandError> {
        let settings = &self.settings.kafka;
        scan::scan(settings, &settings.topic, ranges).map_err(CommandError::Kafka)
    }

    /// Starts to read all dead letters that are there now.
    ///
    /// # Errors
    /// As [`kafka`](Self::kafka).
    pub(super) async fn scan_dead_letters(&self) -> Result<Scan, CommandError> {
        let settings = &self.settings.kafka;
        let ends = ask(&self.dead_letters, &settings.dead_letter_topic, watermarks)
            .await?
            .1;
        let ranges = (0..).zip(ends.into_iter().map(|(beginning, end)| beginning..end));
        scan::scan(settings, &settings.dead_letter_topic, ranges).map_err(CommandError::Kafka)
    }

    /// The next records of a scan; none at its end.
    ///
    /// # Errors
    /// When Kafka refuses, or nothing comes in time.
    pub(super) async fn next(&self, scan: &mut Scan) -> Result<Option<Vec<Scanned>>, CommandError> {
        let chunk = timeout(DEADLINE, scan.next()).await;
        let chunk = chunk.map_err(|_| away("kafka", "no record came, and not the topic's end".to_owned()))?;
        chunk.transpose().map_err(|error| {
            if client::is_refused(&error) {
                CommandError::Kafka(error)
            } else {
                CommandError::Scan(error)
            }
        })
    }

    /// Asks Cassandra.
    ///
    /// # Errors
    /// When it refuses, or has not answered in time.
    pub(super) async fn cassandra<T>(
        &self,
        question: impl AsyncFn(&Live) -> Result<T, SchemaError>,
    ) -> Result<T, CommandError> {
        let until = Instant::now() + DEADLINE;
        let mut unsettled = None;
        let mut delays = self.settings.cassandra.backoff.delays();
        loop {
            let live = timeout_at(until, self.sessions.live());
            let live = live.await.map_err(|_| away("cassandra", self.last_heard()))??;
            let reason = match question(&live).await {
                Err(SchemaError::Failed {
                    operation,
                    fault: fault @ (Fault::Retry { .. } | Fault::Reconnect { .. }),
                }) => format!("{operation}: {fault:?}"),
                Err(SchemaError::Failed {
                    operation,
                    fault: Fault::Invalid(error),
                }) if unsettled.get_or_insert_with(Instant::now).elapsed() < SCHEMA_SETTLES => {
                    format!("{operation}: {error}")
                }
                answer => return answer.map_err(CommandError::Schema),
            };
            if Instant::now() >= until {
                return Err(away("cassandra", reason));
            }
            sleep(delays.next().unwrap_or(DEADLINE)).await;
        }
    }

    fn last_heard(&self) -> String {
        let dependencies = self.health.readiness().dependencies;
        let reasons: Vec<_> = dependencies.into_iter().filter_map(|it| it.reason).collect();
        reasons.join("; ")
    }

    /// How many members the group has.
    ///
    /// # Errors
    /// As [`kafka`](Self::kafka).
    pub(super) async fn members(&self) -> Result<usize, CommandError> {
        let group = self.settings.kafka.group.clone();
        self.kafka(move |broker| broker.group_members(&group)).await
    }

    /// Only a group without members has checkpoints that stay as they are written.
    ///
    /// # Errors
    /// [`CommandError::Members`], and as [`kafka`](Self::kafka).
    pub(super) async fn refuse_members(&self) -> Result<(), CommandError> {
        match self.members().await? {
            0 => Ok(()),
            members => Err(CommandError::Members {
                group: self.settings.kafka.group.clone(),
                members,
                session: self.settings.kafka.session_timeout,
            }),
        }
    }

    /// The group's checkpoints; none, if it never ran.
    ///
    /// # Errors
    /// As [`cassandra`](Self::cassandra).
    pub(super) async fn checkpoints(&self) -> Result<Vec<Checkpoint>, CommandError> {
        self.cassandra(async |live| {
            if !schema::has_checkpoint_table(live, &self.settings.cassandra).await? {
                return Ok(Vec::new());
            }
            let read = self.checkpoints.load(live).await;
            read.map_err(|fault| SchemaError::Failed {
                operation: "read the checkpoints",
                fault,
            })
        })
        .await
    }

    /// The table, when there is one that can be written.
    ///
    /// # Errors
    /// When it is not what is needed, and as [`cassandra`](Self::cassandra).
    pub(super) async fn table(&self) -> Result<Option<Verified>, CommandError> {
        let settings = &self.settings.cassandra;
        self.cassandra(async |live| match schema::table_id(live, settings).await? {
            Some(_) => schema::verify(live, settings).await.map(Some),
            None => Ok(None),
        })
        .await
    }

    /// There is no table, and its command needs one.
    pub(super) fn no_table(&self) -> CommandError {
        CommandError::NoTable {
            table: self.table_name(),
            create: schema::create_table(&self.settings.cassandra),
        }
    }

    /// Keyspace and table.
    pub(super) fn table_name(&self) -> String {
        format!(
            "{}.{}",
            self.settings.cassandra.keyspace, self.settings.cassandra.table
        )
    }

    /// A writer for the table as it was verified.
    pub(super) fn writer(&self, verified: Verified) -> Writer {
        let metrics = StreamerMetrics::new(&Metrics::new(NAME));
        Writer::new(Arc::clone(&self.sessions), verified, Arc::new(metrics))
    }

    /// Writes rows; returns those that Cassandra refuses for their values.
    ///
    /// # Errors
    /// When it refuses all, or has not acknowledged them in time; what was acknowledged before is not told.
    pub(super) async fn write(
        &self,
        writer: &Writer,
        writes: &[Write],
    ) -> Result<Vec<Refused>, CommandError> {
        let written = timeout(DEADLINE, writer.write(writes)).await;
        let written = written.map_err(|_| away("cassandra", self.last_heard()))?;
        written.map_err(CommandError::Write)
    }

    /// Writes checkpoints and reads them back.
    ///
    /// # Errors
    /// When they are not there afterwards, or a streamer joined meanwhile.
    pub(super) async fn store(&self, checkpoints: &[Checkpoint]) -> Result<(), CommandError> {
        self.cassandra(async |live| {
            let write = self.checkpoints.save(live, &self.settings, checkpoints).await;
            write.map_err(|fault| SchemaError::Failed {
                operation: "write the checkpoints",
                fault,
            })
        })
        .await?;
        assign::compare(checkpoints, &self.checkpoints().await?)?;
        match self.members().await? {
            0 => Ok(()),
            _ => Err(CommandError::Joined {
                group: self.settings.kafka.group.clone(),
            }),
        }
    }
}

/// The topic, and beginning and end of each of its partitions.
///
/// # Errors
/// When the cluster does not answer in time, or has no such topic.
pub(super) fn watermarks(broker: &Broker) -> Result<(Topic, Vec<(i64, i64)>), KafkaError> {
    let topic = broker.topic()?;
    let partitions: Vec<_> = (0..topic.partitions).collect();
    Ok((topic, broker.watermarks(&partitions)?))
}

async fn ask<T: Send + 'static>(
    broker: &Arc<Broker>,
    topic: &str,
    question: impl Fn(&Broker) -> Result<T, KafkaError> + Clone + Send + 'static,
) -> Result<T, CommandError> {
    let until = Instant::now() + DEADLINE;
    let mut delays = Backoff::default().delays();
    loop {
        let error = match broker.ask(question.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if client::is_refused(&error) {
            return Err(CommandError::Kafka(error));
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
            return Err(CommandError::NoTopic(topic.to_owned()));
        }
        if Instant::now() >= until {
            return Err(away("kafka", error.to_string()));
        }
        sleep(delays.next().unwrap_or(DEADLINE)).await;
    }
}

fn away(server: &'static str, reason: String) -> CommandError {
    CommandError::Away {
        server,
        waited: DEADLINE,
        reason,
    }
}
