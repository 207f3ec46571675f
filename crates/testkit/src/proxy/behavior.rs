//! The behavior of a connection, as values.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From client to server.
    ToServer,
    /// From server to client.
    ToClient,
}

impl Direction {
    pub(super) fn index(self) -> usize {
        match self {
            Self::ToServer => 0,
            Self::ToClient => 1,
        }
    }
}

/// The behavior of a connection. The default forwards everything at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behavior {
    /// From client to server.
    pub to_server: Flow,
    /// From server to client.
    pub to_client: Flow,
}

impl Behavior {
    /// The same in both directions.
    pub fn both(flow: Flow) -> Self {
        Self {
            to_server: flow,
            to_client: flow,
        }
    }

    /// This in one direction and the default in the other.
    pub fn one_way(direction: Direction, flow: Flow) -> Self {
        let mut behavior = Self::default();
        match direction {
            Direction::ToServer => behavior.to_server = flow,
            Direction::ToClient => behavior.to_client = flow,
        }
        behavior
    }

    pub(super) fn flow(&self, direction: Direction) -> Flow {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }
}

/// The behavior of one direction. Delays and sizes apply only to bytes that are forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The action on the bytes.
    pub action: Action,
    /// Latency. Many bytes are in flight at once, so it does not limit throughput.
    pub delay: Duration,
    /// Maximum additional latency, random for each read. The order stays.
    pub jitter: Duration,
    /// Size of writes; `None`: as read.
    pub slice: Option<NonZeroUsize>,
    /// Maximum bytes per second.
    pub bytes_per_second: Option<NonZeroU32>,
}

impl Flow {
    /// See [`Action::Drop`].
    pub fn blackhole() -> Self {
        Self::of(Action::Drop)
    }

    /// See [`Action::Hold`].
    pub fn hold() -> Self {
        Self::of(Action::Hold)
    }

    /// See [`Action::ResetAfter`].
    pub fn reset_after(bytes: u64) -> Self {
        Self::of(Action::ResetAfter(bytes))
    }

    /// Forwards after `delay` and at most `jitter` more.
    pub fn latency(delay: Duration, jitter: Duration) -> Self {
        Self {
            delay,
            jitter,
            ..Self::default()
        }
    }

    /// Forwards one byte at a time.
    pub fn one_byte_slices() -> Self {
        Self {
            slice: Some(NonZeroUsize::MIN),
            ..Self::default()
        }
    }

    /// Forwards at most so many bytes per second.
    pub fn bandwidth(bytes_per_second: NonZeroU32) -> Self {
        Self {
            bytes_per_second: Some(bytes_per_second),
            ..Self::default()
        }
    }

    fn of(action: Action) -> Self {
        Self {
            action,
            ..Self::default()
        }
    }
}

/// The action on bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Forward them.
    #[default]
    Forward,
    /// Leave them unread, as in a network partition that TCP survives. They arrive after the behavior changes.
    Hold,
    /// Read and drop them, and hide the end of the connection, which then is half open. TCP never delivers a stream with a
    /// gap, so a connection that has lost bytes is reset when its behavior changes.
    Drop,
    /// Reset both sides after so many more bytes, in the middle of a frame.
    ResetAfter(u64),
}
