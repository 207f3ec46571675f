//! Server-sent events of a run: the run after each change, until it has ended.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use tokio::time::sleep;
use uuid::Uuid;

use super::problem::Problem;
use super::run_path::RunPath;
use crate::scheduler::run_queue::RunQueue;

/// Interval between checks for a change.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

struct RunWatch {
    queue: RunQueue,
    run: Uuid,
    last_sent: String,
    ended: bool,
}

pub(super) async fn events(
    State(queue): State<RunQueue>,
    RunPath(run): RunPath,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    queue.run(run)?.ok_or_else(Problem::unknown_run)?;
    let watch = RunWatch {
        queue,
        run,
        last_sent: String::new(),
        ended: false,
    };
    let changes = stream::unfold(watch, |mut watch| async move {
        let event = watch.change().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(changes).keep_alive(KeepAlive::default()))
}

impl RunWatch {
    /// Returns the next change, or `None` after the last one or when the run was pruned.
    async fn change(&mut self) -> Option<Event> {
        while !self.ended {
            let run = self.queue.run(self.run).ok()??;
            let text = serde_json::to_string(&run).ok()?;
            if text != self.last_sent {
                self.ended = run.state.is_final();
                self.last_sent.clone_from(&text);
                return Some(Event::default().event("run").data(text));
            }
            sleep(POLL_INTERVAL).await;
        }
        None
    }
}
