//! How a connection behaves, as values.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the client sends.
    ToServer,
    /// What the server answers.
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

/// How a connection behaves in both directions. The default passes everything on at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behavior {
    /// What the client sends.
    pub to_server: Flow,
    /// What the server answers.
    pub to_client: Flow,
}

impl Behavior {
    /// The same either way.
    #[must_use]
    pub fn both(flow: Flow) -> Self {
        Self {
            to_server: flow,
            to_client: flow,
        }
    }

    /// This in one direction, everything passes in the other.
    #[must_use]
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

/// How bytes go in one direction. What is said of time and size holds only for what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// What becomes of them.
    pub fate: Fate,
    /// How long each is under way. Many are under way at once: this costs time, not throughput.
    pub delay: Duration,
    /// Up to this much more, drawn anew for each piece that is read; the order stays.
    pub jitter: Duration,
    /// They are written in pieces of this size; none: as they were read.
    pub slice: Option<NonZeroUsize>,
    /// At most so many in a second.
    pub bytes_per_second: Option<NonZeroU32>,
}

impl Flow {
    /// Swallowed: see [`Fate::Swallow`].
    #[must_use]
    pub fn swallow() -> Self {
        Self::of(Fate::Swallow)
    }

    /// Held back: see [`Fate::Hold`].
    #[must_use]
    pub fn hold() -> Self {
        Self::of(Fate::Hold)
    }

    /// Reset after `bytes` more: see [`Fate::ResetAfter`].
    #[must_use]
    pub fn reset_after(bytes: u64) -> Self {
        Self::of(Fate::ResetAfter(bytes))
    }

    /// Late by `delay` and up to `jitter` more.
    #[must_use]
    pub fn late(delay: Duration, jitter: Duration) -> Self {
        Self {
            delay,
            jitter,
            ..Self::default()
        }
    }

    /// One byte at a time.
    #[must_use]
    pub fn one_byte_slices() -> Self {
        Self {
            slice: Some(NonZeroUsize::MIN),
            ..Self::default()
        }
    }

    /// At most so many bytes in a second.
    #[must_use]
    pub fn slow(bytes_per_second: NonZeroU32) -> Self {
        Self {
            bytes_per_second: Some(bytes_per_second),
            ..Self::default()
        }
    }

    fn of(fate: Fate) -> Self {
        Self {
            fate,
            ..Self::default()
        }
    }
}

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// They arrive.
    #[default]
    Pass,
    /// They are not read, as in a partition that TCP outlives: they arrive once the behavior is another one.
    Hold,
    /// They are read and gone, and an end of the connection is not told: it is half open. Since TCP never delivers a
    /// stream with a hole, a connection that has lost something is reset when its behavior is another one.
    Swallow,
    /// After so many more bytes both sides see a reset, in the middle of whatever was being sent.
    ResetAfter(u64),
}
