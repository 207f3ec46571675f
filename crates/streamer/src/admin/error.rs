//! The errors of the operator's commands.

use std::io;
use std::time::Duration;

use model::Reason;
use rdkafka::error::KafkaError;
use service::ExitStatus;
use service::output::OutputError;
use service::process::EXIT_CONFIG;
use thiserror::Error;

use crate::cassandra::schema::SchemaError;
use crate::cassandra::session_pool::SessionError;
use crate::cassandra::writer::RowWriteError;
use crate::checkpoint::start_offset_resolver::ResolveError;
use crate::config::SameTopic;
use crate::dead_letters::dead_letter::PartitionOffset;
use crate::dead_letters::retention::RetentionTooShort;
use ::kafka::{ClientRejected, TopicError};

/// The exit code of invalid arguments, as of the parser of the command line.
const EXIT_USAGE: u8 = 2;

/// Why a command failed. Unless the variant says otherwise, nothing was changed.
#[derive(Debug, Error)]
pub(super) enum CommandError {
    /// A server did not respond in time.
    #[error("no response from {server} within {} s: {reason}", timeout.as_secs())]
    Timeout {
        /// The server.
        server: &'static str,
        /// The timeout.
        timeout: Duration,
        /// The last error.
        reason: String,
    },
    /// Kafka rejected the configuration, the credentials or the permissions.
    #[error(transparent)]
    Kafka(#[from] ClientRejected),
    /// The configuration is invalid.
    #[error(transparent)]
    SameTopic(#[from] SameTopic),
    /// The settings of a topic can't be read.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Dead letters would expire before their records.
    #[error(transparent)]
    Retention(#[from] RetentionTooShort),
    /// The text is not a key of the contract.
    #[error("`{text}` is not a key of the contract: {reason}")]
    Key {
        /// The text, escaped.
        text: String,
        /// The broken rule.
        reason: Reason,
    },
    /// The configured topic does not exist.
    #[error("topic `{0}` does not exist: check kafka.topic and kafka.dead_letter_topic")]
    NoTopic(String),
    /// The topic has no such partition.
    #[error("topic `{topic}` has {partitions} partitions: partition {requested} does not exist")]
    NoPartition {
        /// The topic.
        topic: String,
        /// Its number of partitions.
        partitions: i32,
        /// The requested partition.
        requested: i32,
    },
    /// The topic was deleted or truncated while it was read.
    #[error("failed to read the topic to its end")]
    Scan(#[source] KafkaError),
    /// Cassandra can't be used.
    #[error(transparent)]
    Cassandra(#[from] SessionError),
    /// The tables can't be used.
    #[error("failed to use the tables")]
    Schema(#[source] SchemaError),
    /// The contract needs a change of the table that is not an additive one.
    #[error("the table can't be changed to fit the contract: {0}")]
    SchemaChange(String),
    /// The table does not exist.
    #[error(
        "table {table} does not exist. Run `streamer replay` to create it and write its rows again, or create it and run \
         this command again to continue without them: {create}"
    )]
    NoTable {
        /// Keyspace and name.
        table: String,
        /// The statement that creates it.
        create: String,
    },
    /// The role reads masks instead of values.
    #[error(
        "role `{role}` reads masks instead of the values of {columns}, so they can't be compared: \
         GRANT UNMASK ON TABLE {table} TO {role}"
    )]
    Masked {
        /// The role.
        role: String,
        /// Keyspace and name.
        table: String,
        /// The masked columns.
        columns: String,
    },
    /// Rows can't be written.
    #[error("failed to write rows")]
    Write(#[source] RowWriteError),
    /// There is no such dead letter.
    #[error("no dead letter exists for record {0}")]
    NoDeadLetter(PartitionOffset),
    /// The table differs from the log.
    #[error("{0} rows differ from the log")]
    Different(usize),
    /// The key is still in the topics or in the table.
    #[error("the key is still in {0} places")]
    NotErased(usize),
    /// A member may be writing checkpoints.
    #[error(
        "group `{group}` is in use (members: {members}): stop all its streamers first. A killed member, or a stopped static \
         member, counts until its session expires ({} s)",
        session.as_secs()
    )]
    Members {
        /// The group.
        group: String,
        /// The number of members.
        members: usize,
        /// `kafka.session_timeout`.
        session: Duration,
    },
    /// The group uses another protocol than the classic one.
    #[error(
        "the members of group `{group}` can't be counted, so no checkpoint is moved: it uses another protocol, such as \
         group.protocol=consumer (state {state}). Stop its members and delete the group, or set another kafka.group"
    )]
    UncountableMembers {
        /// The group.
        group: String,
        /// The state that Kafka reports.
        state: String,
    },
    /// A streamer joined during the command, and works from the old checkpoints until it is restarted.
    #[error("the checkpoints are written, but a streamer joined group `{group}` in the meantime: restart it")]
    Joined {
        /// The group.
        group: String,
    },
    /// The checkpoints that were read back differ from those written.
    #[error(transparent)]
    NotReadBack(#[from] ResolveError),
    /// Standard input is not a terminal.
    #[error("confirmation needs a terminal: add --yes")]
    NoTerminal,
    /// The operator declined.
    #[error("not confirmed: nothing was changed")]
    Declined,
    /// The terminal is closed.
    #[error("failed to ask on the terminal")]
    Terminal(#[source] io::Error),
    /// Standard output can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ExitStatus for CommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Kafka(_)
            | Self::SameTopic(_)
            | Self::Retention(_)
            | Self::SchemaChange(_)
            | Self::NoTopic(_)
            | Self::NoPartition { .. }
            | Self::Cassandra(_)
            | Self::Schema(_)
            | Self::NoTable { .. }
            | Self::Masked { .. }
            | Self::Members { .. }
            | Self::UncountableMembers { .. }
            | Self::Write(
                RowWriteError::Schema(_) | RowWriteError::OtherTable(_) | RowWriteError::Session(_),
            )
            | Self::NoTerminal => EXIT_CONFIG,
            Self::Key { .. } => EXIT_USAGE,
            Self::Topic(error) if ::kafka::is_rejected(error.kafka()) => EXIT_CONFIG,
            Self::Timeout { .. }
            | Self::Topic(_)
            | Self::NotErased(_)
            | Self::Joined { .. }
            | Self::Write(_)
            | Self::Scan(_)
            | Self::NoDeadLetter(_)
            | Self::Different(_)
            | Self::NotReadBack(_)
            | Self::Declined
            | Self::Terminal(_)
            | Self::Output(_) => 1,
        }
    }
}
