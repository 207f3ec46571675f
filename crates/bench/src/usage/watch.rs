//! What a group of processes uses while it works, its children included: looked at again and again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::tree::{Snapshot, resident_mib};

/// One look at all processes takes a millisecond or two.
const EVERY: Duration = Duration::from_millis(100);

/// What was used between the start of a watch and its end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor seconds, user and system.
    pub cpu_seconds: f64,
    /// The same of each process that is watched, its children included.
    #[serde(default)]
    pub each: BTreeMap<u32, f64>,
    /// The most that all of them together were seen to hold, in MiB.
    pub peak_mib: f64,
    /// Seconds since the start, and MiB then.
    pub memory: Vec<(f64, f64)>,
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Seen {
    /// Processor seconds of each root with its children, since the start. One that has ended keeps its last.
    cpu: BTreeMap<u32, f64>,
    memory: Vec<(f64, f64)>,
}

/// A watch that runs until it is asked what it saw, or dropped.
pub struct Watch {
    roots: Vec<u32>,
    before: BTreeMap<u32, f64>,
    started: Instant,
    seen: Arc<Mutex<Seen>>,
    task: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches these processes and whatever they start.
    pub fn start(roots: Vec<u32>) -> Self {
        let now = Snapshot::take();
        let before = roots
            .iter()
            .map(|root| (*root, now.cpu_seconds(*root).unwrap_or(0.0)))
            .collect();
        let mut watch = Self {
            roots,
            before,
            started: Instant::now(),
            seen: Arc::default(),
            task: None,
        };
        let looker = watch.looker();
        watch.task = Some(tokio::spawn(async move {
            loop {
                looker();
                tokio::time::sleep(EVERY).await;
            }
        }));
        watch
    }

    /// Takes one look.
    fn looker(&self) -> impl Fn() + Send + 'static {
        let (roots, before, started) = (self.roots.clone(), self.before.clone(), self.started);
        let seen = Arc::clone(&self.seen);
        move || {
            let now = Snapshot::take();
            let held: f64 = roots.iter().map(|root| resident_mib(&now.tree(*root))).sum();
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            for (root, before) in &before {
                seen.cpu
                    .extend(now.cpu_seconds(*root).map(|cpu| (*root, cpu - before)));
            }
            if held > 0.0 {
                seen.memory.push((started.elapsed().as_secs_f64(), held));
            }
        }
    }

    /// Processor seconds so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.usage().cpu_seconds
    }

    /// What was used until now; of processes that have ended, what was seen last.
    pub fn usage(&self) -> Usage {
        self.looker()();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Usage {
            cpu_seconds: seen.cpu.values().sum(),
            each: seen.cpu.clone(),
            peak_mib: seen.memory.iter().map(|(_, held)| *held).fold(0.0, f64::max),
            memory: seen.memory.clone(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// So many samples at most, each the most of its stretch, so that no peak is lost.
pub fn thinned(memory: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let stretch = memory.len().div_ceil(most.max(1)).max(1);
    memory
        .chunks(stretch)
        .filter_map(|samples| {
            samples
                .iter()
                .copied()
                .max_by(|one, other| one.1.total_cmp(&other.1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::process::Program;

    #[tokio::test]
    async fn the_work_of_a_child_of_a_child_is_counted() {
        let script = "sh -c 'i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done; sleep 60'; sleep 60";
        let child = Program::new("sh").args(["-c", script]).spawn().unwrap();
        let watch = Watch::start(vec![child.pid()]);
        let until = Instant::now() + Duration::from_secs(30);
        while watch.cpu_seconds() < 0.05 || watch.usage().memory.is_empty() {
            assert!(Instant::now() < until, "{:?}", watch.usage());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let usage = watch.usage();
        assert!(usage.peak_mib > 0.1);
        assert!(usage.each[&child.pid()] >= 0.05, "{usage:?}");
    }

    #[test]
    fn thinning_keeps_the_peaks() {
        let memory: Vec<_> = (0..100_i32)
            .map(|at| (f64::from(at), f64::from((at * 37) % 100)))
            .collect();
        let thin = thinned(&memory, 10);
        assert_eq!(thin.len(), 10);
        assert!(thin.iter().any(|(_, held)| (*held - 99.0).abs() < f64::EPSILON));
        assert!(thinned(&[], 10).is_empty());
    }
}
