//! Why a command was not done.

use std::io;
use std::time::Duration;

use rdkafka::error::KafkaError;
use service::ExitStatus;
use service::process::EXIT_CONFIG;
use thiserror::Error;

use crate::assign::AssignError;
use crate::cassandra::schema::SchemaError;
use crate::cassandra::sessions::Unusable;
use crate::cassandra::writer::WriteError;
use crate::commands::letter::Place;

/// Why a command was not done. Unless it says otherwise, nothing was changed.
#[derive(Debug, Error)]
pub(super) enum CommandError {
    /// A server gave no answer in time.
    #[error("no answer from {server} within {} s: {reason}", waited.as_secs())]
    Away {
        /// Which.
        server: &'static str,
        /// The deadline.
        waited: Duration,
        /// What was heard last.
        reason: String,
    },
    /// Kafka refuses the configuration, the credentials or the rights.
    #[error("kafka refuses this client")]
    Kafka(#[source] KafkaError),
    /// The configured topic does not exist.
    #[error("there is no topic `{0}`")]
    NoTopic(String),
    /// The topic has no such partition.
    #[error("topic `{topic}` has {partitions} partitions, so there is no partition {asked}")]
    NoPartition {
        /// The topic.
        topic: String,
        /// How many it has.
        partitions: i32,
        /// What was asked for.
        asked: i32,
    },
    /// The topic was deleted, or its beginning, while it was read.
    #[error("the topic can't be read to its end")]
    Scan(#[source] KafkaError),
    /// Cassandra can't be used.
    #[error(transparent)]
    Cassandra(#[from] Unusable),
    /// The tables can't be used.
    #[error("the tables can't be used")]
    Schema(#[source] SchemaError),
    /// There is no table.
    #[error(
        "there is no table {table}. Run `streamer replay`, which creates it and writes its rows again; or create it and \
         run this again, to go on without them. It is: {create}"
    )]
    NoTable {
        /// Keyspace and name.
        table: String,
        /// The statement that creates it.
        create: String,
    },
    /// Rows can't be written.
    #[error("the rows can't be written")]
    Write(#[source] WriteError),
    /// There is no such dead letter.
    #[error("there is no dead letter of the record {0}")]
    NoLetter(Place),
    /// The table is not what the log says.
    #[error("the rows of {0} users are not as the log says")]
    Different(usize),
    /// Somebody may be writing checkpoints.
    #[error(
        "group `{group}` is in use (members: {members}): stop every streamer of it first. One that was killed, or a static \
         member that was stopped, counts until its session ends ({} s)",
        session.as_secs()
    )]
    Members {
        /// The group.
        group: String,
        /// How many.
        members: usize,
        /// `kafka.session_timeout`.
        session: Duration,
    },
    /// A streamer started in the very moment; it works from the old checkpoints until it is restarted.
    #[error("the checkpoints are written, but a streamer joined group `{group}` meanwhile: restart it")]
    Joined {
        /// The group.
        group: String,
    },
    /// What was written is not what is read back.
    #[error(transparent)]
    NotReadBack(#[from] AssignError),
    /// Nobody can be asked.
    #[error("there is no terminal to ask for confirmation on: add --yes")]
    NoTerminal,
    /// The operator said no.
    #[error("not confirmed: nothing was changed")]
    Declined,
    /// Standard output, or the terminal, is gone.
    #[error("talk to the terminal")]
    Output(#[source] io::Error),
}

impl ExitStatus for CommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Kafka(_)
            | Self::NoTopic(_)
            | Self::NoPartition { .. }
            | Self::Cassandra(_)
            | Self::Schema(_)
            | Self::NoTable { .. }
            | Self::Members { .. }
            | Self::Write(WriteError::Schema(_) | WriteError::OtherTable(_) | WriteError::Unusable(_))
            | Self::NoTerminal => EXIT_CONFIG,
            Self::Away { .. }
            | Self::Joined { .. }
            | Self::Write(_)
            | Self::Scan(_)
            | Self::NoLetter(_)
            | Self::Different(_)
            | Self::NotReadBack(_)
            | Self::Declined
            | Self::Output(_) => 1,
        }
    }
}
