//! Faults of our own processes.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::RoundError;
use crate::crew::moments;
use crate::evidence::{Sign, Who};
use crate::moment;

/// Between two looks for a death.
const POLL: Duration = Duration::from_millis(20);

impl Scene<'_> {
    pub(super) async fn kill(&self, who: Who, away: Duration) -> Result<Effect, RoundError> {
        let mut service = self.crew.get(who).await;
        let began = self.now();
        self.crew.kill(who, &mut service).await?;
        sleep(away).await;
        self.crew.revive(who, &mut service).await?;
        Ok(self.restarted(began, vec![who]))
    }

    pub(super) async fn terminate(&self, who: Who, away: Duration) -> Result<Effect, RoundError> {
        let mut service = self.crew.get(who).await;
        let began = self.now();
        self.crew.terminate(who, &mut service).await?;
        sleep(away).await;
        self.crew.revive(who, &mut service).await?;
        Ok(self.restarted(began, vec![who]))
    }

    pub(super) async fn freeze(&self, who: Who, lasts: Duration) -> Result<Effect, RoundError> {
        let mut service = self.crew.get(who).await;
        let began = self.now();
        self.crew.stand_up(who, &mut service).await?;
        if let Some(child) = service.child() {
            let frozen = child.freeze().await;
            sleep(lasts).await;
            // Also where a thread did not stop in time: the others have.
            let thawed = child.thaw();
            if let Err(error) = frozen.and(thawed) {
                self.crew.note(format!("{who} was to be frozen: {error}"));
            }
        }
        Ok(Effect {
            excuses: vec![who],
            signs: vec![Sign::Silent(who)],
            ..self.effect(began)
        })
    }

    pub(super) async fn crash(&self, who: Who, times: u32, away: Duration) -> Result<Effect, RoundError> {
        let mut service = self.crew.get(who).await;
        let began = self.now();
        for _ in 0..times {
            self.crew.kill(who, &mut service).await?;
            service.spawn()?;
            // Time to begin something, and none to be ready with it.
            sleep(away / times.max(1)).await;
        }
        self.crew.kill(who, &mut service).await?;
        self.crew.revive(who, &mut service).await?;
        Ok(self.restarted(began, vec![who]))
    }

    pub(super) async fn kill_all(&self, away: Duration) -> Result<Effect, RoundError> {
        let began = self.now();
        let everybody = self.crew.everybody();
        try_join_all(everybody.iter().map(|who| self.kill(*who, away))).await?;
        Ok(self.restarted(began, everybody))
    }

    /// Waits for the death for as long as the fault may last; a process that does not come there is killed anyway, which
    /// is another fault than the one that was to be.
    pub(super) async fn moment(
        &self,
        who: Who,
        name: &'static str,
        lasts: Duration,
    ) -> Result<Effect, RoundError> {
        let mut service = self.crew.get(who).await;
        let folder = moments(&self.plot.folder, who);
        let order = |source| RoundError::Folder {
            path: folder.clone(),
            source,
        };
        let began = self.now();
        self.crew.stand_up(who, &mut service).await?;
        moment::order(&folder, name).map_err(order)?;
        let until = Instant::now() + lasts;
        let alive = || service.child().is_some_and(testkit::process::Child::is_running);
        while Instant::now() < until && alive() {
            sleep(POLL).await;
        }
        let came = !moment::revoke(&folder, name);
        if came && !alive() {
            // It died there and nowhere else, so this is no end to be noted.
            service.mark_ended();
        } else {
            if !came {
                let told = format!("{who} never came to {name} in {} s", lasts.as_secs());
                self.crew.is_without_effect(told);
            }
            self.crew.kill(who, &mut service).await?;
        }
        self.crew.revive(who, &mut service).await?;
        Ok(self.restarted(began, vec![who]))
    }

    pub(super) fn restarted(&self, began: f64, who: Vec<Who>) -> Effect {
        Effect {
            signs: who.iter().map(|who| Sign::Restarted(*who)).collect(),
            excuses: who,
            ..self.effect(began)
        }
    }
}
