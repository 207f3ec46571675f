//! Samples CPU and memory of a group of processes with their children.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::tree::{Snapshot, resident_mib};

/// Sampling interval. A sample takes a millisecond or two.
const INTERVAL: Duration = Duration::from_millis(100);

/// The usage between the start and the end of the sampling.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// CPU seconds of each root process with its children.
    #[serde(default)]
    pub each: BTreeMap<u32, f64>,
    /// Peak memory of all processes together, in MiB.
    pub peak_mib: f64,
    /// Seconds since the start, with the MiB at that time.
    pub memory: Vec<(f64, f64)>,
}

/// The samples so far.
#[derive(Debug, Default)]
struct Samples {
    /// CPU seconds of each root with its children since the start. An ended process keeps its last value.
    cpu: BTreeMap<u32, f64>,
    memory: Vec<(f64, f64)>,
}

/// Samples until it is dropped.
pub struct UsageSampler {
    roots: Vec<u32>,
    before: BTreeMap<u32, f64>,
    started: Instant,
    samples: Arc<Mutex<Samples>>,
    task: Option<JoinHandle<()>>,
}

impl UsageSampler {
    /// Samples these processes and their children.
    pub fn start(roots: Vec<u32>) -> Self {
        let now = Snapshot::take();
        let before = roots
            .iter()
            .map(|root| (*root, now.cpu_seconds(*root).unwrap_or(0.0)))
            .collect();
        let mut sampler = Self {
            roots,
            before,
            started: Instant::now(),
            samples: Arc::default(),
            task: None,
        };
        let sample = sampler.sample_once();
        sampler.task = Some(tokio::spawn(async move {
            loop {
                sample();
                tokio::time::sleep(INTERVAL).await;
            }
        }));
        sampler
    }

    /// Returns a function that takes one sample.
    fn sample_once(&self) -> impl Fn() + Send + 'static {
        let (roots, before, started) = (self.roots.clone(), self.before.clone(), self.started);
        let samples = Arc::clone(&self.samples);
        move || {
            let now = Snapshot::take();
            let held: f64 = roots.iter().map(|root| resident_mib(&now.tree(*root))).sum();
            let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
            for (root, before) in &before {
                samples
                    .cpu
                    .extend(now.cpu_seconds(*root).map(|cpu| (*root, cpu - before)));
            }
            if held > 0.0 {
                samples.memory.push((started.elapsed().as_secs_f64(), held));
            }
        }
    }

    /// CPU seconds so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.usage().cpu_seconds
    }

    /// The usage so far; of ended processes, the last sample.
    pub fn usage(&self) -> Usage {
        self.sample_once()();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        Usage {
            cpu_seconds: samples.cpu.values().sum(),
            each: samples.cpu.clone(),
            peak_mib: samples.memory.iter().map(|(_, held)| *held).fold(0.0, f64::max),
            memory: samples.memory.clone(),
        }
    }
}

impl Drop for UsageSampler {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Reduces the samples to at most `most`. Each is the maximum of its interval, so that no peak is lost.
pub fn downsample(memory: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let interval = memory.len().div_ceil(most.max(1)).max(1);
    memory
        .chunks(interval)
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
    async fn cpu_of_grandchildren_is_counted() {
        let script = "sh -c 'i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done; sleep 60'; sleep 60";
        let child = Program::new("sh").args(["-c", script]).spawn().unwrap();
        let sampler = UsageSampler::start(vec![child.pid()]);
        let until = Instant::now() + Duration::from_secs(30);
        while sampler.cpu_seconds() < 0.05 || sampler.usage().memory.is_empty() {
            assert!(Instant::now() < until, "{:?}", sampler.usage());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let usage = sampler.usage();
        assert!(usage.peak_mib > 0.1);
        assert!(usage.each[&child.pid()] >= 0.05, "{usage:?}");
    }

    #[test]
    fn downsampling_keeps_the_peaks() {
        let memory: Vec<_> = (0..100_i32)
            .map(|at| (f64::from(at), f64::from((at * 37) % 100)))
            .collect();
        let thin = downsample(&memory, 10);
        assert_eq!(thin.len(), 10);
        assert!(thin.iter().any(|(_, held)| (*held - 99.0).abs() < f64::EPSILON));
        assert!(downsample(&[], 10).is_empty());
    }
}
