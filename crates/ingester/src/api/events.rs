//! A run as it goes, as server-sent events: the entry whenever it has changed, until the run has ended.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use tokio::time::sleep;
use uuid::Uuid;

use super::Problem;
use crate::scheduler::run_queue::RunQueue;

/// How often it looks, which is as fine as progress gets.
const LOOK: Duration = Duration::from_millis(200);

struct Watch {
    desk: RunQueue,
    run: Uuid,
    told: String,
    over: bool,
}

pub(super) async fn events(
    State(desk): State<RunQueue>,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let run = id.parse().map_err(|_| Problem::unknown_run())?;
    desk.run(run)?.ok_or_else(Problem::unknown_run)?;
    let watch = Watch {
        desk,
        run,
        told: String::new(),
        over: false,
    };
    let changes = stream::unfold(watch, |mut watch| async move {
        let event = watch.change().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(changes).keep_alive(KeepAlive::default()))
}

impl Watch {
    /// The next change; none behind the last, or when the run was pruned meanwhile.
    async fn change(&mut self) -> Option<Event> {
        while !self.over {
            let entry = self.desk.run(self.run).ok()??;
            let text = serde_json::to_string(&entry).ok()?;
            if text != self.told {
                self.over = entry.state.is_final();
                self.told.clone_from(&text);
                return Some(Event::default().event("run").data(text));
            }
            sleep(LOOK).await;
        }
        None
    }
}
