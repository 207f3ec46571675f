//! The members of a group, and what they have read: when each partition moved, and who moved it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{AssignmentError, Member};

/// No step lasts longer: the longest is a dead member's session, of which a broker's default is 45 s.
const DEADLINE: Duration = Duration::from_secs(120);

/// A member that leaves says so to the broker.
const LEAVING: Duration = Duration::from_secs(30);

/// A partition that moved within this is one that flows.
const FLOWING: Duration = Duration::from_millis(250);

/// How long everything has to flow until a step is over.
const SETTLED: Duration = Duration::from_secs(2);

/// What is known of one partition.
#[derive(Debug, Clone, Copy)]
struct Seen {
    offset: i64,
    at: Instant,
    owner: usize,
    longest: Duration,
}

/// What the members have read so far.
#[derive(Debug, Default)]
pub(super) struct Flow {
    partitions: BTreeMap<i32, Seen>,
}

impl Flow {
    /// A record that was read before, by whomever, is no progress.
    pub(super) fn read(&mut self, partition: i32, offset: i64, owner: usize, at: Instant) {
        let seen = self.partitions.entry(partition).or_insert(Seen {
            offset: -1,
            at,
            owner,
            longest: Duration::ZERO,
        });
        if offset > seen.offset {
            *seen = Seen {
                offset,
                at,
                owner,
                longest: seen.longest.max(at - seen.at),
            };
        }
    }

    /// The longest pause of any partition since it was asked last, and how many paused for more than `noticed`.
    pub(super) fn pauses(&mut self, noticed: Duration) -> (Duration, usize) {
        let pauses: Vec<_> = self
            .partitions
            .values_mut()
            .map(|seen| std::mem::take(&mut seen.longest))
            .collect();
        let longest = pauses.iter().copied().max().unwrap_or_default();
        (longest, pauses.iter().filter(|pause| **pause > noticed).count())
    }

    /// Whether all of so many partitions flow, and these members have each some of them.
    fn flows(&self, partitions: usize, members: &BTreeSet<usize>, now: Instant) -> bool {
        let owners: BTreeSet<usize> = self.partitions.values().map(|seen| seen.owner).collect();
        self.partitions.len() == partitions
            && owners == *members
            && self.partitions.values().all(|seen| now - seen.at < FLOWING)
    }
}

/// A group and its members, who end with it.
pub(super) struct Group {
    plan: Member,
    partitions: usize,
    flow: Arc<Mutex<Flow>>,
    members: BTreeMap<usize, Child>,
    next: usize,
}

impl Group {
    pub(super) fn new(plan: Member, partitions: usize) -> Self {
        Self {
            plan,
            partitions,
            flow: Arc::default(),
            members: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One member more.
    pub(super) fn join(&mut self) -> Result<(), AssignmentError> {
        let protocol = clap::ValueEnum::to_possible_value(&self.plan.protocol);
        let mut child = Command::new(std::env::current_exe()?)
            .arg("member")
            .args(["--brokers", &self.plan.brokers])
            .args(["--topic", &self.plan.topic])
            .args(["--group", &self.plan.group])
            .args([
                "--protocol",
                protocol.as_ref().map_or("", |value| value.get_name()),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let owner = self.next;
        if let Some(output) = child.stdout.take() {
            let flow = Arc::clone(&self.flow);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Some((partition, offset)) = parsed(&line) {
                        let mut flow = flow.lock().unwrap_or_else(PoisonError::into_inner);
                        flow.read(partition, offset, owner, Instant::now());
                    }
                }
            });
        }
        self.members.insert(owner, child);
        self.next += 1;
        Ok(())
    }

    /// The newest member leaves in good order.
    pub(super) async fn leave(&mut self) -> Result<(), AssignmentError> {
        if let Some((_, mut member)) = self.members.pop_last() {
            drop(member.stdin.take());
            let started = Instant::now();
            while member.try_wait()?.is_none() {
                if started.elapsed() > LEAVING {
                    return Err(AssignmentError::Late {
                        what: "a member did not leave",
                        within: LEAVING,
                    });
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    /// The newest member is killed.
    pub(super) fn kill(&mut self) -> Result<(), AssignmentError> {
        if let Some((_, mut member)) = self.members.pop_last() {
            member.kill()?;
            member.wait()?;
        }
        Ok(())
    }

    /// Waits until every member has partitions and every partition has flowed for a while.
    pub(super) async fn settled(&self) -> Result<(), AssignmentError> {
        let members: BTreeSet<usize> = self.members.keys().copied().collect();
        let started = Instant::now();
        let mut since = None;
        while started.elapsed() < DEADLINE {
            let now = Instant::now();
            since = self
                .flow()
                .flows(self.partitions, &members, now)
                .then(|| since.unwrap_or(now));
            if since.is_some_and(|since: Instant| since.elapsed() > SETTLED) {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(AssignmentError::Late {
            what: "the partitions were not shared",
            within: DEADLINE,
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for member in self.members.values_mut() {
            // It ends by itself, too, once nobody holds its input.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn parsed(line: &str) -> Option<(i32, i64)> {
    let (partition, offset) = line.split_once(' ')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_with_the_first_record_that_nobody_had_read() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut flow = Flow::default();
        flow.read(0, 7, 0, at(0));
        flow.read(0, 8, 0, at(10));
        flow.read(0, 8, 1, at(300));
        flow.read(0, 9, 1, at(400));
        flow.read(1, 3, 0, at(400));
        assert_eq!(
            flow.pauses(Duration::from_millis(100)),
            (Duration::from_millis(390), 1)
        );
        assert_eq!(flow.pauses(Duration::ZERO), (Duration::ZERO, 0));
    }
}
