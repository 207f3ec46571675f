//! Limits how many statements start on a session since its oldest unfinished one.
//!
//! The driver assigns stream ids from 1 to 32,767 and reuses them after wrap-around, even if an id is still in use. A
//! late reply could then acknowledge a newer statement. With at most [`StreamIdLimiter::MAX_SPAN`] statements between
//! the oldest unfinished and the newest one, every id in use is unique on every connection.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Counts the statements of one session.
#[derive(Debug, Default)]
pub struct StreamIdLimiter {
    state: Mutex<Slots>,
    released: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    /// The number of the statement at the front of `unfinished`.
    oldest: u64,
    /// Whether each statement since the oldest unfinished one is unfinished.
    unfinished: VecDeque<bool>,
}

/// The number of a statement within its session.
#[derive(Clone, Copy, Debug)]
pub struct StreamSlot(u64);

impl StreamIdLimiter {
    /// Half of the stream ids.
    pub const MAX_SPAN: usize = 16_000;

    /// Waits until one more statement may start.
    ///
    /// A statement whose call timed out never finishes and keeps its slot. After [`MAX_SPAN`](Self::MAX_SPAN) more
    /// statements the session blocks.
    pub async fn acquire(&self) -> StreamSlot {
        loop {
            let released = self.released.notified();
            if let Some(slot) = self.try_acquire() {
                return slot;
            }
            released.await;
        }
    }

    fn try_acquire(&self) -> Option<StreamSlot> {
        let mut state = self.slots();
        if state.unfinished.len() >= Self::MAX_SPAN {
            return None;
        }
        let slot = state.oldest + state.unfinished.len() as u64;
        state.unfinished.push_back(true);
        Some(StreamSlot(slot))
    }

    /// Releases the slot of a statement to which the server has replied.
    pub fn release(&self, slot: StreamSlot) {
        let mut state = self.slots();
        let index = usize::try_from(slot.0 - state.oldest).expect("at most MOST tickets are out");
        state.unfinished[index] = false;
        let before = state.unfinished.len();
        while state.unfinished.front() == Some(&false) {
            state.unfinished.pop_front();
            state.oldest += 1;
        }
        if before >= Self::MAX_SPAN && state.unfinished.len() < Self::MAX_SPAN {
            drop(state);
            self.released.notify_waiters();
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn unfinished_statement_blocks_before_its_id_is_reused() {
        let limiter = StreamIdLimiter::default();
        let unfinished_slot = limiter.acquire().await;
        for _ in 1..StreamIdLimiter::MAX_SPAN {
            let slot = limiter.acquire().await;
            limiter.release(slot);
        }
        assert!(timeout(SHORT, limiter.acquire()).await.is_err());
        limiter.release(unfinished_slot);
        assert!(timeout(SHORT, limiter.acquire()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_statement_starts_after_the_late_reply() {
        let limiter = StreamIdLimiter::default();
        let unfinished_slot = limiter.acquire().await;
        for _ in 1..StreamIdLimiter::MAX_SPAN {
            let slot = limiter.acquire().await;
            limiter.release(slot);
        }
        let waiting = limiter.acquire();
        tokio::pin!(waiting);
        assert!(timeout(SHORT, &mut waiting).await.is_err());
        limiter.release(unfinished_slot);
        assert!(timeout(SHORT, waiting).await.is_ok());
    }

    #[tokio::test]
    async fn replies_in_any_order_release_the_slots() {
        let limiter = StreamIdLimiter::default();
        for _ in 0..3 {
            let mut slots = Vec::new();
            for _ in 0..StreamIdLimiter::MAX_SPAN {
                slots.push(limiter.acquire().await);
            }
            for slot in slots.into_iter().rev() {
                limiter.release(slot);
            }
        }
    }
}
