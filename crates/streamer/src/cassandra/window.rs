//! How many statements are in flight at once: fewer after a sign of overload, slowly more again (AIMD, as TCP does).

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// An adaptive window over a semaphore.
#[derive(Debug)]
pub struct Window {
    most: usize,
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    size: usize,
    /// Permits that are out and will not come back.
    debt: usize,
    /// Answers since the window last grew.
    answers: usize,
}

/// The right to have one statement in flight.
#[derive(Debug)]
pub struct Permit<'a> {
    window: &'a Window,
    permit: Option<SemaphorePermit<'a>>,
}

impl Window {
    /// Fewer than this would be no test of whether the server has recovered.
    const LEAST: usize = 8;

    /// A window that opens at `most`, and never goes above it.
    pub fn new(most: usize) -> Self {
        let state = State {
            size: most,
            debt: 0,
            answers: 0,
        };
        Self {
            most,
            permits: Semaphore::new(most),
            state: Mutex::new(state),
        }
    }

    /// Waits for a place.
    pub async fn enter(&self) -> Permit<'_> {
        let permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        Permit {
            window: self,
            permit: Some(permit),
        }
    }

    /// A statement was answered well: after a window's worth of answers the window grows by an eighth.
    pub fn answered(&self) {
        let mut state = self.state();
        if state.size == self.most {
            return;
        }
        state.answers += 1;
        if state.answers >= state.size {
            let more = (state.size / 8).clamp(1, self.most - state.size);
            state.answers = 0;
            state.size += more;
            let forgiven = more.min(state.debt);
            state.debt -= forgiven;
            self.permits.add_permits(more - forgiven);
        }
    }

    /// The server showed that it has too much to do: half as many from now on.
    pub fn overloaded(&self) {
        let mut state = self.state();
        let target = (state.size / 2).max(Self::LEAST.min(self.most));
        let fewer = state.size - target;
        state.size = target;
        state.answers = 0;
        state.debt += fewer - self.permits.forget_permits(fewer);
    }

    /// The size now.
    pub fn size(&self) -> usize {
        self.state().size
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.window.state();
        if state.debt > 0 {
            state.debt -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn overload_halves_the_window_and_answers_open_it_again() {
        let window = Window::new(64);
        window.overloaded();
        assert_eq!((window.size(), window.permits.available_permits()), (32, 32));
        for _ in 0..2_000 {
            window.answered();
        }
        assert_eq!((window.size(), window.permits.available_permits()), (64, 64));
    }

    #[tokio::test]
    async fn permits_that_are_out_are_taken_back_when_they_return() {
        let window = Window::new(16);
        let mut out = Vec::new();
        for _ in 0..16 {
            out.push(window.enter().await);
        }
        window.overloaded();
        assert_eq!(window.size(), 8);
        drop(out);
        assert_eq!(window.permits.available_permits(), 8);
    }

    #[tokio::test]
    async fn it_never_closes() {
        let window = Window::new(64);
        for _ in 0..100 {
            window.overloaded();
        }
        assert_eq!(window.size(), Window::LEAST);
        drop(window.enter().await);
    }
}
