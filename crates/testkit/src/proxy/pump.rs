//! Forwards one direction of one connection.
//!
//! A reader applies the action; a writer behind a bounded queue writes each chunk when it is due. So a delay does not slow
//! the reader down.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::behavior::{Action, Behavior, Direction, Flow};
use super::stats::Counters;
use super::version_limit::{VersionLimit, VersionLimiter};

/// Maximum bytes of a read.
const CHUNK: usize = 16 * 1024;
/// Maximum chunks in flight. More wait in the sender's socket.
const MAX_IN_FLIGHT: usize = 1_024;

/// The pump of one direction.
pub(super) struct Pump {
    pub(super) direction: Direction,
    pub(super) seed: u64,
    pub(super) behavior: watch::Receiver<Behavior>,
    pub(super) version_limits: &'static [VersionLimit],
    pub(super) reset: CancellationToken,
    pub(super) counters: Arc<Counters>,
}

/// An item from the reader to the writer.
enum Item {
    Chunk {
        due: Instant,
        bytes: Vec<u8>,
    },
    /// The sender has closed.
    End {
        due: Instant,
    },
    /// Reset both sides.
    Reset,
}

/// The result of a read.
enum Read {
    Bytes(Vec<u8>),
    End,
    Failed,
}

impl Pump {
    /// Runs until the sender has closed and everything is written, or until a reset.
    pub(super) async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) {
        let (sender, receiver) = mpsc::channel(MAX_IN_FLIGHT);
        tokio::join!(self.read(from, sender), self.write(to, receiver));
    }

    async fn read(&self, mut from: ReadHalf<'_>, items: mpsc::Sender<Item>) {
        let mut behavior = self.behavior.clone();
        let mut rng = StdRng::seed_from_u64(self.seed * 2 + self.direction.index() as u64);
        let mut limiter = VersionLimiter::new(self.version_limits);
        let mut buffer = vec![0; CHUNK];
        let mut flow = behavior.borrow_and_update().flow(self.direction);
        let mut last_due = Instant::now();
        let mut has_lost = false;
        let mut has_ended = false;
        loop {
            let wants = flow.action != Action::Hold && !has_ended;
            let read = tokio::select! {
                biased;
                changed = behavior.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    flow = behavior.borrow_and_update().flow(self.direction);
                    if has_lost && flow.action != Action::Drop {
                        self.reset.cancel();
                        return;
                    }
                    continue;
                }
                read = from.read(&mut buffer), if wants => match read {
                    Ok(0) => Read::End,
                    Ok(length) => Read::Bytes(limiter.pass(&buffer[..length])),
                    Err(_) => Read::Failed,
                },
            };
            if flow.action == Action::Drop {
                has_lost = true;
                if let Read::Bytes(bytes) = &read {
                    let dropped = &self.counters.dropped_bytes;
                    dropped.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                has_ended = !matches!(read, Read::Bytes(_));
                continue;
            }
            let due = (Instant::now() + flow.delay + flow.jitter.mul_f64(rng.random())).max(last_due);
            last_due = due;
            if !flow.delay.is_zero() && matches!(read, Read::Bytes(_)) {
                self.counters.delayed.fetch_add(1, Ordering::Relaxed);
            }
            let (item, and_then) = match read {
                Read::Bytes(bytes) => self.cut(bytes, &mut flow, due),
                Read::End => (Item::End { due }, None),
                Read::Failed => (Item::Reset, None),
            };
            has_ended = !matches!(item, Item::Chunk { .. }) || and_then.is_some();
            // The writer ends early only when the receiver has closed, which the other pump forwards to the sender.
            if items.send(item).await.is_err() {
                return;
            }
            if let Some(item) = and_then
                && items.send(item).await.is_err()
            {
                return;
            }
            if has_ended {
                return;
            }
        }
    }

    /// Returns the forwarded part of a chunk and the item that follows it. Counts down to a reset.
    fn cut(&self, mut bytes: Vec<u8>, flow: &mut Flow, due: Instant) -> (Item, Option<Item>) {
        let Action::ResetAfter(left) = flow.action else {
            return (Item::Chunk { due, bytes }, None);
        };
        let length = bytes.len() as u64;
        if length < left {
            flow.action = Action::ResetAfter(left - length);
            return (Item::Chunk { due, bytes }, None);
        }
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.counters.resets.fetch_add(1, Ordering::Relaxed);
        (Item::Chunk { due, bytes }, Some(Item::Reset))
    }

    async fn write(&self, mut to: WriteHalf<'_>, mut items: mpsc::Receiver<Item>) {
        while let Some(item) = items.recv().await {
            let done = match item {
                Item::Chunk { due, bytes } => {
                    sleep_until(due).await;
                    self.forward(&mut to, &bytes).await
                }
                Item::End { due } => {
                    sleep_until(due).await;
                    to.shutdown().await
                }
                Item::Reset => {
                    self.reset.cancel();
                    return;
                }
            };
            if done.is_err() {
                let drops = self.behavior.borrow().flow(self.direction).action == Action::Drop;
                if !drops {
                    self.reset.cancel();
                }
                return;
            }
        }
    }

    async fn forward(&self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> std::io::Result<()> {
        let flow = self.behavior.borrow().flow(self.direction);
        let slice = flow.slice.map_or(bytes.len().max(1), NonZeroUsize::get);
        // At least twenty writes a second, so that a low rate makes no bursts.
        let even = flow
            .bytes_per_second
            .map_or(usize::MAX, |rate| (rate.get() as usize / 20).max(1));
        let slice = slice.min(even);
        let is_cut = flow.slice.is_some() || flow.bytes_per_second.is_some();
        for slice in bytes.chunks(slice) {
            to.write_all(slice).await?;
            self.counters.passed[self.direction.index()].fetch_add(slice.len() as u64, Ordering::Relaxed);
            if is_cut {
                self.counters.slices.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(rate) = flow.bytes_per_second {
                sleep(Duration::from_secs(slice.len() as u64) / rate.get()).await;
            } else if flow.slice.is_some() {
                // Other tasks run, so that the receiver reads slice by slice.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}
