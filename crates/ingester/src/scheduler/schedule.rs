//! Computes when runs start: interval or cron, jitter, catch-up of missed starts, concurrency policy and retries. Pure:
//! time is an argument. Waits for nothing and executes nothing.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{CatchUp, ConcurrencyPolicy, ScheduleSettings};
use crate::run::Trigger;
use crate::scheduler::cron::Cron;

/// A start that is handled later than this was missed: the process was down or the machine suspended.
const ON_TIME: Duration = Duration::from_secs(60);
/// A backward clock step up to this size repeats no cron start. After a larger one, starts count from the new time.
const MAX_CLOCK_STEP: Duration = Duration::from_secs(3_600);
/// Maximum number of starts enumerated after a long downtime. Earlier starts are only estimated in number.
const MAX_STARTS: usize = 10_000;
/// Maximum number of missed and skipped starts stored as runs per check, the newest ones.
const MAX_RECORDED: usize = 100;

/// Rule for the starts of runs.
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
    Never,
    Every(Duration),
    Cron(Box<Cron>, TimeZone),
}

/// Due starts and what to do about each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DueStarts {
    /// Runs to enqueue, in this order.
    pub runs: Vec<(Timestamp, Trigger)>,
    /// The newest starts that do not run, with the reason.
    pub not_run: Vec<(Timestamp, SkipReason)>,
    /// Number of all missed starts that do not run.
    pub missed: u64,
    /// Number of all overlapping starts, or starts during a pause, that do not run.
    pub skipped: u64,
    /// The latest start handled by this check, or the current time after a large backward clock step.
    pub up_to: Option<Timestamp>,
}

/// Why a start does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The scheduler was not running at that time.
    Missed,
    /// Another run was active at that time.
    Overlap,
    /// The schedule was paused.
    Paused,
}

impl DueStarts {
    /// Skips every start, because the schedule is paused.
    #[must_use]
    pub fn paused(mut self) -> Self {
        self.skipped += self.missed + count(self.runs.len());
        self.missed = 0;
        let starts = self.runs.drain(..).map(|(start, _)| (start, SkipReason::Paused));
        self.not_run.extend(starts);
        self.not_run.sort_by_key(|(start, _)| *start);
        self.not_run
            .iter_mut()
            .for_each(|(_, reason)| *reason = SkipReason::Paused);
        self
    }
}

/// A period in which a run was active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunPeriod {
    /// Start of the period.
    pub from: Timestamp,
    /// End of the period.
    pub until: Timestamp,
    /// Whether the schedule started the run. The concurrency policy applies to such runs only; a requested run delays a
    /// start until its end.
    pub is_scheduled: bool,
}

impl Schedule {
    /// Creates the schedule of `settings`. `salt` makes the jitter of several ingesters differ. It must be the same after a
    /// restart, or a start whose jitter becomes shorter is lost.
    #[must_use]
    pub fn new(settings: &ScheduleSettings, salt: u64) -> Self {
        let recurrence = match &settings.cron {
            _ if !settings.enabled => Recurrence::Never,
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

    /// Returns the initial schedule cursor: an interval starts at once, a cron expression at its next match.
    #[must_use]
    pub fn origin(&self, now: Timestamp) -> Timestamp {
        match &self.recurrence {
            Recurrence::Every(interval) => now.checked_sub(*interval).unwrap_or(now),
            Recurrence::Cron(..) | Recurrence::Never => now,
        }
    }

    /// Whether it has no starts.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        matches!(self.recurrence, Recurrence::Never)
    }

    /// Returns when to act on the first start after `done`, the schedule cursor. `None` when no start follows.
    #[must_use]
    pub fn next(&self, done: Timestamp, now: Timestamp) -> Option<Timestamp> {
        self.upcoming(done, now, 1).first().copied()
    }

    /// Returns when to act on the first `number` starts after `done`.
    #[must_use]
    pub fn upcoming(&self, done: Timestamp, now: Timestamp, number: usize) -> Vec<Timestamp> {
        let first = self.after(self.trusted(done, now));
        let starts = std::iter::successors(first, |start| self.after(*start));
        starts.take(number).map(|start| self.jittered(start)).collect()
    }

    /// Returns what to do about the starts after `done` up to `now`, when runs were active in `active`.
    #[must_use]
    pub fn due(&self, done: Timestamp, active: &[RunPeriod], now: Timestamp) -> DueStarts {
        let from = self.trusted(done, now);
        let (starts, before) = self.elapsed_starts(from, now);
        // Without the reset, the next start would stay one interval ahead after a large backward clock step.
        let reset = (from != done).then_some(from);
        let mut due = DueStarts {
            missed: before,
            up_to: starts.back().copied().or(reset),
            ..DueStarts::default()
        };
        let (mut late, mut overlapping, mut delayed, mut on_time) = (vec![], vec![], vec![], vec![]);
        for start in starts {
            let at = self.jittered(start);
            let during = active.iter().find(|run| run.from <= at && at <= run.until);
            let list = match during {
                Some(run) if run.is_scheduled => &mut overlapping,
                Some(_) => &mut delayed,
                None if since(at, now) > ON_TIME => &mut late,
                None => &mut on_time,
            };
            list.push(start);
        }
        let queued = match self.concurrency_policy {
            ConcurrencyPolicy::Queue => overlapping.pop(),
            ConcurrencyPolicy::Skip => None,
        };
        let waiting = [queued, delayed.pop()];
        let current = on_time.pop().or(waiting[0].max(waiting[1]));
        // Starts are interchangeable: one start replaces all that wait.
        overlapping.extend(
            waiting
                .into_iter()
                .flatten()
                .filter(|start| Some(*start) != current),
        );
        overlapping.extend(delayed);
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

    /// Returns when to retry a run that failed at `failed` after `retried` retries. `done` is the schedule cursor. A regular
    /// start replaces the retry if it comes first or was handled since. A backward clock step does not delay the retry.
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
        let clock_stepped_back = since(now, at) > self.retry_delay;
        wanted.then_some(if clock_stepped_back { now } else { at })
    }

    /// Returns the first start after `time`, without jitter.
    fn after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.recurrence {
            Recurrence::Never => None,
            Recurrence::Every(interval) => time.checked_add(*interval).ok(),
            Recurrence::Cron(cron, zone) => cron.after(time, zone),
        }
    }

    /// Returns the newest starts between `done` and `now`, and the number of earlier ones.
    fn elapsed_starts(&self, done: Timestamp, now: Timestamp) -> (VecDeque<Timestamp>, u64) {
        let (starts, complete) = self.starts_until(done, now);
        let Some(last) = starts.back().copied().filter(|_| !complete) else {
            return (starts, 0);
        };
        // Too many starts: estimate their number and enumerate only the newest.
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

    /// Returns the latest start at or before `time` of an interval that counts from `done`.
    fn aligned(&self, done: Timestamp, time: Timestamp) -> Timestamp {
        let Recurrence::Every(interval) = &self.recurrence else {
            return time;
        };
        let into = since(done, time).as_nanos() % interval.as_nanos();
        let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
        time.checked_sub(into).unwrap_or(time)
    }

    /// Returns `done`, or `now` after a backward clock step that is too large to wait out.
    fn trusted(&self, done: Timestamp, now: Timestamp) -> Timestamp {
        let tolerated = match &self.recurrence {
            Recurrence::Every(_) => Duration::ZERO,
            Recurrence::Cron(..) | Recurrence::Never => MAX_CLOCK_STEP,
        };
        if since(now, done) > tolerated { now } else { done }
    }

    /// Adds the jitter, which is the same for the same start.
    fn jittered(&self, start: Timestamp) -> Timestamp {
        let span = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
        let random = mixed(self.salt ^ start.as_microsecond().cast_unsigned());
        let late = Duration::from_nanos(random.checked_rem(span).unwrap_or(0));
        start.checked_add(late).unwrap_or(start)
    }
}

/// Returns pseudo-random bits of `number` (SplitMix64). Stable over versions, unlike the hasher of the standard library.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Returns the time from `a` to `b`, or zero when `b` is not after `a`.
fn since(a: Timestamp, b: Timestamp) -> Duration {
    Duration::try_from(b.duration_since(a)).unwrap_or(Duration::ZERO)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).expect("a length fits into 64 bits")
}

#[cfg(test)]
mod tests;
