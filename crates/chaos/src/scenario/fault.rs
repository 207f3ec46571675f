//! Faults as values, each with a description of one line. [`crate::faults`] injects them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use testkit::proxy::Direction;
use testkit::randomuser;

use crate::service_id::ServiceId;

/// A fault.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// `SIGKILL`; the service restarts after the duration.
    Kill(ServiceId),
    /// `SIGTERM`; the service restarts after the duration.
    Terminate(ServiceId),
    /// `SIGSTOP`, and `SIGCONT` after the duration.
    Freeze(ServiceId),
    /// `SIGTERM`; the service restarts as this release after the duration.
    Replace(ServiceId, Release),
    /// Kills and restarts a service this many times.
    CrashLoop(ServiceId, u32),
    /// Kills every service at once.
    KillAll,
    /// The service aborts at this crash point; needs a build with the feature `failpoint`.
    CrashPoint(ServiceId, &'static str),
    /// An outage of one server, by its index.
    Server(ServerKind, usize, Outage),
    Link(Link, LinkFault),
    /// The next responses of the offline API.
    Api(randomuser::Fault),
    /// Adds this many partitions to the topic.
    AddPartitions(usize),
    /// An additional streamer joins and leaves the group this many times.
    RebalanceStorm(u32),
    /// Sets the group's committed offsets to the topic's end while no streamer runs.
    ForeignCommit,
    /// Deletes the checkpoints while no streamer runs.
    DeleteCheckpoints,
    /// Drops the table; the streamers exit, and the operator replays the topic.
    DropTable,
    /// Adds and drops a column, which invalidates every prepared statement of the table.
    AlterTable,
    /// Restores a snapshot of the table that is older than the checkpoints; the operator replays the topic.
    RestoreTable,
    /// Deletes and recreates the topic while all services run.
    RecreateTopic,
    /// Deletes the older records of the topic.
    TruncateTopic(Truncation),
    /// A replica that lacks acknowledged records becomes the leader, and other records are appended in their place. The
    /// streamers exit, and the operator permits them to read the log again.
    RegrowTopic,
    /// Bootstraps the spare node into the cluster.
    AddNode,
    /// A second process joins the group with the instance id of a member.
    DuplicateMember(ServiceId),
    Disk(DiskOwner, DiskFault),
    /// The operator redrives the dead letters, some of which are valid records.
    Redrive,
    /// Limits a resource of a process to what it uses now.
    Exhaust(ServiceId, Resource),
}

/// A release of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The one before.
    Previous,
    /// This one.
    Present,
}

/// Which records a topic loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truncation {
    /// Those below the checkpoints.
    Processed,
    /// Also unread ones: the streamers exit, and the operator permits a start behind the gap.
    Unread,
}

/// Whose files are on a small file system of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskOwner {
    /// The ingester's state.
    Ingester,
    /// The first broker's log.
    Kafka,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskFault {
    Full,
    /// Remounted read-only, as after a disk error.
    ReadOnly,
}

/// A resource of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// No file and no connection can be opened.
    FileDescriptors,
    /// Resident memory can grow up to the service's bound.
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Kafka,
    Cassandra,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    /// `SIGTERM`.
    Stopped,
    /// `SIGKILL`.
    Killed,
    /// `SIGSTOP`.
    Frozen,
    /// Alternating `SIGSTOP` and `SIGCONT`: the server runs a quarter of the time.
    Slow,
}

/// A link between a client and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Publisher and streamers to Kafka.
    Kafka,
    /// Streamers to Cassandra.
    Cassandra,
    /// Ingester to publisher.
    Publisher,
    /// Ingester to the random-user API.
    Api,
}

impl Link {
    /// The server's name.
    pub(crate) fn server(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
            Self::Publisher => "publisher",
            Self::Api => "the API",
        }
    }

    /// Its name in `/readyz`. The ingester is ready without the API, because it accepts runs.
    pub(crate) fn dependency(self) -> Option<&'static str> {
        (self != Self::Api).then_some(self.server())
    }
}

/// How a link misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkFault {
    /// Drops everything silently.
    Cut,
    /// Drops everything in one direction.
    OneWay(Direction),
    /// Drops everything on the connections that are open; new ones work.
    HalfOpen,
    /// Delays each response by this many milliseconds, plus up to half as many.
    Late(u64),
    /// Resets each connection after this many bytes.
    Reset(u64),
    /// Forwards one byte at a time.
    Slices,
    /// Limits the rate to this many bytes a second.
    Slow(u32),
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedFault {
    /// Since the start of the round.
    pub(crate) at: Duration,
    pub(crate) duration: Duration,
    pub(crate) fault: Fault,
}

/// What a fault disturbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultClass {
    Process,
    Server,
    Network,
    Resource,
    Store,
    Input,
    /// Consumer group and clocks.
    Group,
}

impl Fault {
    pub(crate) fn class(&self) -> FaultClass {
        match self {
            Self::Kill(_)
            | Self::Terminate(_)
            | Self::Replace(..)
            | Self::Freeze(_)
            | Self::CrashLoop(..)
            | Self::KillAll
            | Self::CrashPoint(..) => FaultClass::Process,
            Self::Server(..) | Self::AddNode => FaultClass::Server,
            Self::Link(..) => FaultClass::Network,
            Self::Disk(..) | Self::Exhaust(..) => FaultClass::Resource,
            Self::DeleteCheckpoints
            | Self::DropTable
            | Self::AlterTable
            | Self::RestoreTable
            | Self::RecreateTopic
            | Self::Redrive
            | Self::RegrowTopic
            | Self::TruncateTopic(_) => FaultClass::Store,
            Self::Api(_) => FaultClass::Input,
            Self::AddPartitions(_)
            | Self::RebalanceStorm(_)
            | Self::ForeignCommit
            | Self::DuplicateMember(_) => FaultClass::Group,
        }
    }

    /// Whether a fault of this duration makes the group rebalance.
    pub(crate) fn rebalances(&self, duration: Duration) -> bool {
        use ServiceId::Streamer;
        match self {
            Self::Kill(Streamer(_))
            | Self::Terminate(Streamer(_))
            | Self::Replace(Streamer(_), _)
            | Self::CrashLoop(Streamer(_), _)
            | Self::CrashPoint(Streamer(_), _)
            | Self::KillAll
            | Self::ForeignCommit
            | Self::DeleteCheckpoints
            | Self::DropTable
            | Self::RestoreTable
            | Self::TruncateTopic(Truncation::Unread)
            | Self::RegrowTopic
            | Self::DuplicateMember(_) => true,
            // Longer than the session timeout.
            Self::Freeze(Streamer(_)) => duration > Duration::from_secs(8),
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(id) => write!(out, "{id} killed"),
            Self::Terminate(id) => write!(out, "{id} terminated"),
            Self::Replace(id, release) => {
                let release = format!("{release:?}").to_lowercase();
                write!(out, "{id} replaced by the {release} release")
            }
            Self::Freeze(id) => write!(out, "{id} frozen"),
            Self::CrashLoop(id, times) => write!(out, "{id} killed {times} times in a row"),
            Self::KillAll => out.write_str("every service killed"),
            Self::CrashPoint(id, point) => write!(out, "{id} killed {}", point.replace('_', " ")),
            Self::Server(server, index, outage) => {
                let text = format!("{server:?}-{} {outage:?}", index + 1);
                out.write_str(&text.to_lowercase())
            }
            Self::Link(link, fault) => write!(out, "link to {}: {fault}", link.server()),
            Self::Api(fault) => write!(out, "API: {fault}"),
            Self::AddPartitions(more) => write!(out, "{more} partitions added"),
            Self::RebalanceStorm(times) => write!(out, "a fourth streamer joins and leaves {times} times"),
            Self::ForeignCommit => out.write_str("the group's committed offsets set to the end"),
            Self::DeleteCheckpoints => out.write_str("checkpoints deleted"),
            Self::DropTable => out.write_str("table dropped, then replayed"),
            Self::AlterTable => out.write_str("a column added to the table and dropped"),
            Self::RestoreTable => out.write_str("an older snapshot of the table restored, then replayed"),
            Self::RecreateTopic => out.write_str("topic deleted and recreated"),
            Self::TruncateTopic(Truncation::Processed) => {
                out.write_str("topic truncated below the checkpoints")
            }
            Self::TruncateTopic(Truncation::Unread) => {
                out.write_str("topic truncated beyond the checkpoints")
            }
            Self::RegrowTopic => out.write_str("acknowledged records lost by a leader change"),
            Self::AddNode => out.write_str("a node added"),
            Self::Redrive => out.write_str("dead letters redriven"),
            Self::DuplicateMember(id) => write!(out, "a second {id} joins"),
            Self::Disk(owner, fault) => {
                let disk = match owner {
                    DiskOwner::Ingester => "the ingester's state",
                    DiskOwner::Kafka => "kafka-1",
                };
                let state = match fault {
                    DiskFault::Full => "full",
                    DiskFault::ReadOnly => "read-only",
                };
                write!(out, "disk of {disk}: {state}")
            }
            Self::Exhaust(id, Resource::FileDescriptors) => write!(out, "{id} without file descriptors"),
            Self::Exhaust(id, Resource::Memory) => write!(out, "{id} at its memory limit"),
        }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => out.write_str("cut"),
            Self::OneWay(Direction::ToServer) => out.write_str("cut towards the server"),
            Self::OneWay(Direction::ToClient) => out.write_str("cut towards the client"),
            Self::HalfOpen => out.write_str("half open"),
            Self::Late(millis) => write!(out, "{millis} ms late"),
            Self::Reset(bytes) => write!(out, "reset after {bytes} bytes"),
            Self::Slices => out.write_str("one byte at a time"),
            Self::Slow(bytes) => write!(out, "{bytes} bytes a second"),
        }
    }
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, duration) = (self.at.as_secs_f64(), self.duration.as_secs_f64());
        write!(out, "{} at {at:.1} s for {duration:.1} s", self.fault)
    }
}
