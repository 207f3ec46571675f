//! Does a fault to the chain, undoes it after its time, and says what came to pass and where it has to show.

mod api;
mod disk;
mod group;
mod link;
mod operator;
mod process;
mod server;
mod starved;
mod store;
mod topic;

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::RoundError;
use super::chronicle::Chronicle;
use super::crew::{Crew, Plot};
use super::evidence::{Incident, Loss, Sign, Who};
use super::fault::{Fault, Planned};
use super::pause::Pause;
use super::venue::Venue;
use super::workload::Workload;

pub(super) use server::lost_majorities;

/// What faults are done to.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The servers and proxies.
    pub venue: &'a Venue,
    /// The processes.
    pub crew: &'a Crew,
    /// All that is to be done in the round: what else may be in the way of a fault.
    pub plan: &'a [Planned],
    /// The round's names.
    pub plot: &'a Plot,
    /// When the round began.
    pub began: Instant,
    /// Holds the checkpoints' watch off while the operator is at work on them.
    pub pause: &'a Pause,
    /// The traffic, which waits while the topic is not there.
    pub workload: &'a Workload,
    /// Where what the topic loses is kept.
    pub chronicle: &'a Chronicle,
}

/// What is known of a fault beside its times.
pub(super) struct Effect {
    pub(super) began: f64,
    pub(super) ended: f64,
    pub(super) loses: Option<Loss>,
    pub(super) excuses: Vec<Who>,
    pub(super) signs: Vec<Sign>,
    pub(super) faint: bool,
    pub(super) goes_on: bool,
}

impl Scene<'_> {
    /// Waits for the fault's moment, does it, undoes it.
    ///
    /// # Errors
    /// When it can't be done, which is the campaign's own failure.
    pub async fn play(self, planned: &Planned) -> Result<Incident, RoundError> {
        sleep(planned.at.saturating_sub(self.began.elapsed())).await;
        let effect = self.perform(&planned.fault, planned.lasts).await?;
        Ok(Incident {
            fault: planned.to_string(),
            class: planned.fault.class(),
            began: effect.began,
            ended: effect.ended,
            loses: effect.loses,
            excuses: effect.excuses,
            signs: effect.signs,
            faint: effect.faint,
            goes_on: effect.goes_on,
        })
    }

    async fn perform(&self, fault: &Fault, lasts: Duration) -> Result<Effect, RoundError> {
        match fault {
            Fault::Kill(who) => self.kill(*who, lasts).await,
            Fault::Terminate(who) => self.terminate(*who, lasts).await,
            Fault::Freeze(who) => self.freeze(*who, lasts).await,
            Fault::CrashLoop(who, times) => self.crash(*who, *times, lasts).await,
            Fault::KillAll => self.kill_all(lasts).await,
            Fault::Moment(who, moment) => self.moment(*who, moment, lasts).await,
            Fault::Server(server, index, outage) => self.outage(*server, *index, *outage, lasts).await,
            Fault::Link(link, trouble) => self.trouble(*link, *trouble, lasts).await,
            Fault::Api(fault) => Ok(self.answer_badly(fault).await),
            Fault::Partitions(more) => self.partitions(*more).await,
            Fault::Storm(times) => self.storm(*times, lasts).await,
            Fault::ForeignCommit => self.foreign_commit().await,
            Fault::CheckpointsDeleted => self.checkpoints_deleted().await,
            Fault::TableDropped => self.table_dropped().await,
            Fault::TableAltered => self.table_altered(lasts).await,
            Fault::TableRestored => self.table_restored().await,
            Fault::TopicRecreated => self.topic_recreated().await,
            Fault::TopicCut(loss) => self.topic_cut(*loss).await,
            Fault::Duplicate(who) => self.duplicate(*who, lasts).await,
            Fault::Disk(disk, spoiled) => self.spoil(*disk, *spoiled, lasts).await,
            Fault::Redrive => self.dead_letters_redriven().await,
            Fault::Starved(who, resource) => self.starve(*who, *resource, lasts).await,
        }
    }

    /// Seconds since the round began.
    pub(super) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Something that began then and ends now.
    pub(super) fn effect(&self, began: f64) -> Effect {
        Effect {
            began,
            ended: self.now(),
            loses: None,
            excuses: Vec::new(),
            signs: Vec::new(),
            faint: false,
            goes_on: false,
        }
    }
}
