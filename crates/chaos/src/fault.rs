//! What can be done to a chain, as values with one line of text each. Doing it is `inject`'s part.

use std::fmt;
use std::time::Duration;

use super::evidence::Who;
use testkit::proxy::Direction;
use testkit::randomuser;

/// A fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// `SIGKILL`; it comes back after the fault's time.
    Kill(Who),
    /// `SIGTERM`; the same.
    Terminate(Who),
    /// `SIGSTOP`, and `SIGCONT` after the fault's time.
    Freeze(Who),
    /// Killed and started again, so many times in a row.
    CrashLoop(Who, u32),
    /// All of our processes at once.
    KillAll,
    /// It dies when it next comes to this place in its code; needs a build with the feature `failpoint`.
    Moment(Who, &'static str),
    /// A server is away, or does not move.
    Server(Server, usize, Outage),
    /// A link misbehaves.
    Link(Link, Trouble),
    /// The offline API's next answers.
    Api(randomuser::Fault),
    /// The topic gets this many partitions more.
    Partitions(usize),
    /// A streamer comes and goes, again and again.
    Storm(u32),
    /// Somebody sets the group's own offsets to the topic's end, while every streamer is killed and started again.
    ForeignCommit,
    /// A streamer's checkpoints are deleted by hand, while all streamers are stopped.
    CheckpointsDeleted,
    /// The table is dropped; the streamers stop, and the operator replays the topic.
    TableDropped,
    /// The table gets a column that nobody knows and loses it again: the server forgets every prepared statement of it.
    TableAltered,
    /// The table is put back to a snapshot that is older than the checkpoints, and the operator replays the topic.
    TableRestored,
    /// The topic is deleted and created anew while everybody runs.
    TopicRecreated,
    /// The topic loses its older records.
    TopicCut(Loss),
    /// A second process joins the group under the name of a member that is there.
    Duplicate(Who),
    /// A file system is full, or can't be written.
    Disk(Disk, Spoiled),
    /// The operator redrives the dead letters, some of which are records after all.
    Redrive,
    /// A process may have no more of something than it holds.
    Starved(Who, Resource),
}

/// Which records a topic loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Those below the checkpoints.
    Settled,
    /// Also those that nobody has read: data is gone, the streamers stop, and the operator lets them go on behind it.
    Unread,
}

/// What lies on a small file system of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// The ingester's state.
    Ingester,
    /// The first broker's log.
    Kafka,
}

/// What befalls a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoiled {
    /// Not a byte is free.
    Full,
    /// It can only be read, as after an error of the disk.
    ReadOnly,
}

/// What a process may run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// No file and no connection can be opened.
    Descriptors,
    /// It may grow up to its bound, and not a page further.
    Memory,
}

/// Which kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// A broker.
    Kafka,
    /// A node.
    Cassandra,
}

/// What befalls a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// `SIGTERM`.
    Stopped,
    /// `SIGKILL`.
    Killed,
    /// `SIGSTOP`.
    Frozen,
    /// `SIGSTOP` and `SIGCONT` by turns: three quarters of its time are taken from it.
    Slow,
}

/// Between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
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
    /// What lies behind it.
    #[must_use]
    pub fn server(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
            Self::Publisher => "publisher",
            Self::Api => "the API",
        }
    }

    /// The name that `/readyz` has for it. An ingester is ready without the API: it takes orders for runs.
    #[must_use]
    pub fn dependency(self) -> Option<&'static str> {
        (self != Self::Api).then_some(self.server())
    }
}

/// How a link misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing passes, and nobody is told.
    Cut,
    /// Nothing passes that way.
    OneWay(Direction),
    /// What passes on the open connections is lost, until they are closed; new ones are good.
    HalfOpen,
    /// Every answer so many milliseconds late, and up to half as many more.
    Late(u64),
    /// Each connection is reset after so many bytes more.
    Reset(u64),
    /// One byte at a time.
    Slices,
    /// So many bytes in a second.
    Slow(u32),
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Since the round began.
    pub at: Duration,
    /// For so long.
    pub lasts: Duration,
    /// What.
    pub fault: Fault,
}

impl Fault {
    /// The number of its class in the campaign's plan.
    #[must_use]
    pub fn class(&self) -> u8 {
        match self {
            Self::Kill(_)
            | Self::Terminate(_)
            | Self::Freeze(_)
            | Self::CrashLoop(..)
            | Self::KillAll
            | Self::Moment(..) => 1,
            Self::Server(..) => 2,
            Self::Link(..) => 3,
            Self::Disk(..) | Self::Starved(..) => 4,
            Self::CheckpointsDeleted
            | Self::TableDropped
            | Self::TableAltered
            | Self::TableRestored
            | Self::TopicRecreated
            | Self::Redrive
            | Self::TopicCut(_) => 5,
            Self::Api(_) => 6,
            Self::Partitions(_) | Self::Storm(_) | Self::ForeignCommit | Self::Duplicate(_) => 7,
        }
    }

    /// Whether the group must rebalance because of it, when it lasts so long.
    #[must_use]
    pub fn rebalances(&self, lasts: Duration) -> bool {
        match self {
            Self::Kill(Who::Streamer(_))
            | Self::Terminate(Who::Streamer(_))
            | Self::CrashLoop(Who::Streamer(_), _)
            | Self::Moment(Who::Streamer(_), _)
            | Self::KillAll
            | Self::ForeignCommit
            | Self::CheckpointsDeleted
            | Self::TableDropped
            | Self::TableRestored
            | Self::TopicCut(Loss::Unread)
            | Self::Duplicate(_) => true,
            // Longer than the session.
            Self::Freeze(Who::Streamer(_)) => lasts > Duration::from_secs(8),
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(who) => write!(out, "{who} killed"),
            Self::Terminate(who) => write!(out, "{who} terminated"),
            Self::Freeze(who) => write!(out, "{who} frozen"),
            Self::CrashLoop(who, times) => write!(out, "{who} killed {times} times in a row"),
            Self::KillAll => out.write_str("every process killed"),
            Self::Moment(who, moment) => write!(out, "{who} killed {}", moment.replace('_', " ")),
            Self::Server(server, index, outage) => {
                let server = match server {
                    Server::Kafka => "kafka",
                    Server::Cassandra => "cassandra",
                };
                let outage = format!("{outage:?}").to_lowercase();
                write!(out, "{server}-{} {outage}", index + 1)
            }
            Self::Link(link, trouble) => write!(out, "link to {}: {trouble}", link.server()),
            Self::Api(fault) => write!(out, "API: {fault}"),
            Self::Partitions(more) => write!(out, "{more} partitions added"),
            Self::Storm(times) => write!(out, "a fourth streamer comes and goes {times} times"),
            Self::ForeignCommit => out.write_str("the group's offsets set to the end by hand"),
            Self::CheckpointsDeleted => out.write_str("checkpoints deleted by hand"),
            Self::TableDropped => out.write_str("table dropped, then replayed"),
            Self::TableAltered => out.write_str("a column added to the table and dropped"),
            Self::TableRestored => out.write_str("table put back to an older snapshot, then replayed"),
            Self::TopicRecreated => out.write_str("topic deleted and created anew"),
            Self::TopicCut(Loss::Settled) => out.write_str("topic cut below the checkpoints"),
            Self::TopicCut(Loss::Unread) => out.write_str("topic cut beyond the checkpoints"),
            Self::Redrive => out.write_str("dead letters redriven by hand"),
            Self::Duplicate(who) => write!(out, "a second {who} joins"),
            Self::Disk(disk, spoiled) => write!(out, "{disk}: {spoiled}"),
            Self::Starved(who, Resource::Descriptors) => write!(out, "{who} without file descriptors"),
            Self::Starved(who, Resource::Memory) => write!(out, "{who} at its bound of memory"),
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ingester => "disk of the ingester's state",
            Self::Kafka => "disk of kafka-1",
        })
    }
}

impl fmt::Display for Spoiled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Full => "full",
            Self::ReadOnly => "read-only",
        })
    }
}

impl fmt::Display for Trouble {
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

impl fmt::Display for Planned {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at.as_secs_f64(), self.lasts.as_secs_f64());
        write!(out, "{} at {at:.1} s for {lasts:.1} s", self.fault)
    }
}
