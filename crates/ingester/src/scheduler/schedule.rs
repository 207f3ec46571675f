//! When runs start: by interval or cron expression, with jitter, and what becomes of starts that nobody was there for
//! or that fall into another run. Pure: the time is an argument. It neither waits nor runs anything.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::run::Trigger;
use crate::scheduler::cron::Cron;
use crate::settings::{CatchUp, ConcurrencyPolicy, ScheduleSettings};

/// A start that is dealt with later than this was missed: the process was down, or the machine asleep.
const ON_TIME: Duration = Duration::from_secs(60);
/// A clock that was set back by no more than this catches up with the starts it has seen; by more, they come again.
const MAX_CLOCK_STEP: Duration = Duration::from_secs(3_600);
/// Starts that are looked at one by one after a long absence. Of those before, only the number is estimated.
const MAX_STARTS: usize = 10_000;
/// Of the starts that come to nothing, so many latest get an entry of their own in the history.
const MAX_RECORDED: usize = 100;

/// A rule for starts.
#[derive(Clone, Debug)]
pub struct Schedule {
    recurrence: Recurrence,
    jitter: Duration,
    salt: u64,
    catch_up: CatchUp,
    max_catchup_runs: usize,
    concurrency_policy: ConcurrencyPolicy,
    retries: u32,
    retry_delay: Duration,
}

#[derive(Clone, Debug)]
enum Recurrence {
    Every(Duration),
    Cron(Box<Cron>, TimeZone),
}

/// What is to be done about the starts that have come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DueStarts {
    /// Runs to do, in this order.
    pub runs: Vec<(Timestamp, Trigger)>,
    /// The latest of the starts that come to nothing, and why.
    pub not_run: Vec<(Timestamp, SkipReason)>,
    /// All starts that nobody was there for and that come to nothing.
    pub missed: u64,
    /// All starts that fell into another run and come to nothing.
    pub skipped: u64,
    /// The latest start that is dealt with by this, or the moment from which a clock that was set back counts anew.
    pub up_to: Option<Timestamp>,
}

/// Why a start comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Nobody was there.
    Missed,
    /// Another run was under way.
    Overlap,
}

/// When a run was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunPeriod {
    /// From.
    pub from: Timestamp,
    /// Until.
    pub until: Timestamp,
}

impl Schedule {
    /// The rule that the settings describe. `salt` keeps the jitter of several ingesters apart.
    #[must_use]
    pub fn new(settings: &ScheduleSettings, salt: u64) -> Self {
        let recurrence = match &settings.cron {
            Some(cron) => Recurrence::Cron(Box::new(cron.clone()), settings.time_zone.rules().clone()),
            None => Recurrence::Every(settings.interval.max(Duration::from_millis(1))),
        };
        Self {
            recurrence,
            jitter: settings.jitter,
            salt,
            catch_up: settings.catch_up,
            max_catchup_runs: settings.max_catchup_runs,
            concurrency_policy: settings.concurrency_policy,
            retries: settings.retries,
            retry_delay: settings.retry_delay,
        }
    }

    /// What the very first process counts from: an interval starts at once, a cron expression when it next matches.
    #[must_use]
    pub fn origin(&self, now: Timestamp) -> Timestamp {
        match &self.recurrence {
            Recurrence::Every(interval) => now.checked_sub(*interval).unwrap_or(now),
            Recurrence::Cron(..) => now,
        }
    }

    /// When the first start after `done`, the latest one dealt with, is to be acted upon. None when there is none ever.
    #[must_use]
    pub fn next(&self, done: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let start = self.after(self.trusted(done, now))?;
        Some(self.jittered(start))
    }

    /// What to do about the starts after `done` that have come by `now`, when runs were under way in `busy`.
    #[must_use]
    pub fn due(&self, done: Timestamp, active: Option<RunPeriod>, now: Timestamp) -> DueStarts {
        let from = self.trusted(done, now);
        let (starts, before) = self.elapsed_starts(from, now);
        // A clock that was set back counts anew from here; else the next start would always be one rhythm ahead.
        let reset = (from != done).then_some(from);
        let mut due = DueStarts {
            missed: before,
            up_to: starts.back().copied().or(reset),
            ..DueStarts::default()
        };
        let (mut late, mut overlapping, mut on_time) = (Vec::new(), Vec::new(), Vec::new());
        for start in starts {
            let at = self.jittered(start);
            if active.is_some_and(|active| active.from <= at && at <= active.until) {
                overlapping.push(start);
            } else if since(at, now) > ON_TIME {
                late.push(start);
            } else {
                on_time.push(start);
            }
        }
        let queued = match self.concurrency_policy {
            ConcurrencyPolicy::Queue => overlapping.pop(),
            ConcurrencyPolicy::Skip => None,
        };
        let current = on_time.pop().or(queued);
        // One start is as good as the other: a queued one gives way to one that has come meanwhile.
        overlapping.extend(queued.filter(|queued| Some(*queued) != current));
        late.extend(on_time);
        let caught_up = match self.catch_up {
            CatchUp::None => 0,
            CatchUp::Latest => usize::from(current.is_none()),
            CatchUp::All => self.max_catchup_runs,
        };
        let caught_up = late.split_off(late.len().saturating_sub(caught_up));
        due.missed += count(late.len());
        due.skipped = count(overlapping.len());
        due.runs
            .extend(caught_up.into_iter().map(|start| (start, Trigger::CatchUp)));
        due.runs.extend(current.map(|start| (start, Trigger::Schedule)));
        due.not_run
            .extend(late.into_iter().map(|start| (start, SkipReason::Missed)));
        due.not_run
            .extend(overlapping.into_iter().map(|start| (start, SkipReason::Overlap)));
        due.not_run.sort_by_key(|(start, _)| *start);
        due.not_run
            .drain(..due.not_run.len().saturating_sub(MAX_RECORDED));
        due
    }

    /// When a run that failed at `failed`, after `retried` retries, is tried again. It gives way to a regular start:
    /// to the next one, and to one after the failure that is dealt with, as `done`, the latest of those, says. A clock
    /// that was set back since delays nothing.
    #[must_use]
    pub fn retry(
        &self,
        retried: u32,
        failed: Timestamp,
        done: Timestamp,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let at = failed.checked_add(self.retry_delay).ok()?;
        let next = self.next(done, failed);
        let wanted = retried < self.retries && done <= failed && next.is_none_or(|next| at < next);
        let set_back = since(now, at) > self.retry_delay;
        wanted.then_some(if set_back { now } else { at })
    }

    /// The first start after `time`, without jitter.
    fn after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.recurrence {
            Recurrence::Every(interval) => time.checked_add(*interval).ok(),
            Recurrence::Cron(cron, zone) => cron.after(time, zone),
        }
    }

    /// The starts after `done` whose time has come, the latest of them one by one, and how many there were before.
    fn elapsed_starts(&self, done: Timestamp, now: Timestamp) -> (VecDeque<Timestamp>, u64) {
        let (starts, complete) = self.starts_until(done, now);
        let Some(last) = starts.back().copied().filter(|_| !complete) else {
            return (starts, 0);
        };
        // Too many to look at: go on shortly before now, as many starts as are of interest.
        let gap = since(done, last).as_nanos() / (MAX_STARTS as u128);
        let back = gap.saturating_mul((MAX_STARTS / 2) as u128);
        let back = Duration::from_nanos(u64::try_from(back).unwrap_or(u64::MAX));
        let from = now.checked_sub(back).unwrap_or(done).max(done);
        let from = self.aligned(done, from);
        let between = since(done, from).as_nanos() / gap.max(1);
        let (starts, _) = self.starts_until(from, now);
        (starts, u64::try_from(between).unwrap_or(u64::MAX))
    }

    fn starts_until(&self, done: Timestamp, now: Timestamp) -> (VecDeque<Timestamp>, bool) {
        let mut starts = VecDeque::new();
        let mut last = done;
        while let Some(start) = self.after(last).filter(|start| self.jittered(*start) <= now) {
            if starts.len() == MAX_STARTS {
                return (starts, false);
            }
            starts.push_back(start);
            last = start;
        }
        (starts, true)
    }

    /// The latest start at or before `time`, for an interval that counts from `done`.
    fn aligned(&self, done: Timestamp, time: Timestamp) -> Timestamp {
        let Recurrence::Every(interval) = &self.recurrence else {
            return time;
        };
        let into = since(done, time).as_nanos() % interval.as_nanos();
        let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
        time.checked_sub(into).unwrap_or(time)
    }

    /// `done`, unless the clock was set back so far that waiting for it to come again would be silence.
    fn trusted(&self, done: Timestamp, now: Timestamp) -> Timestamp {
        let tolerated = match &self.recurrence {
            Recurrence::Every(_) => Duration::ZERO,
            Recurrence::Cron(..) => MAX_CLOCK_STEP,
        };
        if since(now, done) > tolerated { now } else { done }
    }

    /// The same start always comes equally late.
    fn jittered(&self, start: Timestamp) -> Timestamp {
        let span = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
        let mut hasher = DefaultHasher::new();
        (start, self.salt).hash(&mut hasher);
        let late = Duration::from_nanos(hasher.finish().checked_rem(span).unwrap_or(0));
        start.checked_add(late).unwrap_or(start)
    }
}

/// From `a` to `b`, or nothing when `b` is not after it.
fn since(a: Timestamp, b: Timestamp) -> Duration {
    Duration::try_from(b.duration_since(a)).unwrap_or(Duration::ZERO)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).expect("what is in store can be counted in 64 bits")
}

#[cfg(test)]
#[path = "schedule/tests.rs"]
mod tests;
