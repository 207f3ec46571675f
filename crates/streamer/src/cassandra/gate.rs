//! How many statements may be *started* on a session since its oldest unfinished one.
//!
//! The driver numbers requests from 1 to 32,767 and starts over without asking whether a number is still in use. A
//! straggler's reply would then be taken for the reply to a newer statement: a false acknowledgement. Letting at most
//! [`Gate::MOST`] start while one is unfinished keeps every number unique, whatever connection it is on.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Counts the statements of one session.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The ticket of the front of `unfinished`.
    oldest: u64,
    /// For each statement started since the oldest unfinished one: is it unfinished?
    unfinished: VecDeque<bool>,
}

/// The place of a statement among those of its session.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(u64);

impl Gate {
    /// Half of the numbers there are.
    pub const MOST: usize = 16_000;

    /// Waits until one more statement may start. A statement that is never finished, since its call was given up,
    /// keeps its place: after [`MOST`](Self::MOST) more the session can start nothing.
    pub async fn enter(&self) -> Ticket {
        loop {
            let room = self.room.notified();
            if let Some(ticket) = self.try_enter() {
                return ticket;
            }
            room.await;
        }
    }

    fn try_enter(&self) -> Option<Ticket> {
        let mut state = self.state();
        if state.unfinished.len() >= Self::MOST {
            return None;
        }
        let ticket = state.oldest + state.unfinished.len() as u64;
        state.unfinished.push_back(true);
        Some(Ticket(ticket))
    }

    /// The server has answered: nothing more comes for this statement.
    pub fn finish(&self, ticket: Ticket) {
        let mut state = self.state();
        let place = usize::try_from(ticket.0 - state.oldest).expect("at most MOST tickets are out");
        state.unfinished[place] = false;
        let before = state.unfinished.len();
        while state.unfinished.front() == Some(&false) {
            state.unfinished.pop_front();
            state.oldest += 1;
        }
        if before >= Self::MOST && state.unfinished.len() < Self::MOST {
            drop(state);
            self.room.notify_waiters();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn one_straggler_stops_the_session_before_its_number_is_used_again() {
        let gate = Gate::default();
        let straggler = gate.enter().await;
        for _ in 1..Gate::MOST {
            let ticket = gate.enter().await;
            gate.finish(ticket);
        }
        assert!(timeout(SOON, gate.enter()).await.is_err());
        gate.finish(straggler);
        assert!(timeout(SOON, gate.enter()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_statement_starts_when_the_straggler_is_answered() {
        let gate = Gate::default();
        let straggler = gate.enter().await;
        for _ in 1..Gate::MOST {
            let ticket = gate.enter().await;
            gate.finish(ticket);
        }
        let waiting = gate.enter();
        tokio::pin!(waiting);
        assert!(timeout(SOON, &mut waiting).await.is_err());
        gate.finish(straggler);
        assert!(timeout(SOON, waiting).await.is_ok());
    }

    #[tokio::test]
    async fn answers_in_any_order_free_the_numbers() {
        let gate = Gate::default();
        for _ in 0..3 {
            let mut tickets = Vec::new();
            for _ in 0..Gate::MOST {
                tickets.push(gate.enter().await);
            }
            for ticket in tickets.into_iter().rev() {
                gate.finish(ticket);
            }
        }
    }
}
