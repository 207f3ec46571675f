//! Samples CPU time and resident memory of processes and their descendants while they run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::process_tree::ProcessTree;

/// A sample of all processes takes one or two milliseconds.
const INTERVAL: Duration = Duration::from_millis(100);

/// Resources used since the monitor's start.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// CPU seconds, user and system, of all processes.
    pub cpu_seconds: f64,
    /// CPU seconds of each monitored process with its descendants. An ended process keeps its last sample.
    pub cpu_by_pid: BTreeMap<u32, f64>,
    /// Peak of the summed resident memory, in MiB.
    pub peak_mib: f64,
    /// Samples of memory: seconds since the start, and MiB.
    pub memory: Vec<(f64, f64)>,
}

#[derive(Debug, Default)]
struct MonitorSamples {
    cpu: BTreeMap<u32, f64>,
    memory: Vec<(f64, f64)>,
}

/// Samples until it is dropped.
pub struct Monitor {
    roots: BTreeMap<u32, f64>,
    started: Instant,
    samples: Arc<Mutex<MonitorSamples>>,
    task: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts sampling these processes and their descendants.
    pub fn start(pids: &[u32]) -> Self {
        let tree = ProcessTree::snapshot();
        let used = |pid: &u32| (*pid, tree.cpu_seconds(*pid).unwrap_or(0.0));
        let mut monitor = Self {
            roots: pids.iter().map(used).collect(),
            started: Instant::now(),
            samples: Arc::default(),
            task: None,
        };
        let sample = monitor.sampler();
        monitor.task = Some(tokio::spawn(async move {
            loop {
                sample();
                tokio::time::sleep(INTERVAL).await;
            }
        }));
        monitor
    }

    fn sampler(&self) -> impl Fn() + Send + 'static {
        let (roots, started) = (self.roots.clone(), self.started);
        let samples = Arc::clone(&self.samples);
        move || {
            let tree = ProcessTree::snapshot();
            let resident: f64 = roots.keys().map(|pid| tree.resident_mib(*pid)).sum();
            let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
            for (pid, before) in &roots {
                let used = tree.cpu_seconds(*pid).map(|cpu| (*pid, cpu - before));
                samples.cpu.extend(used);
            }
            if resident > 0.0 {
                samples.memory.push((started.elapsed().as_secs_f64(), resident));
            }
        }
    }

    /// Takes a sample and returns the usage so far.
    pub fn usage(&self) -> Usage {
        self.sampler()();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        Usage {
            cpu_seconds: samples.cpu.values().sum(),
            cpu_by_pid: samples.cpu.clone(),
            peak_mib: samples.memory.iter().map(|(_, mib)| *mib).fold(0.0, f64::max),
            memory: samples.memory.clone(),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::process::Program;

    #[tokio::test]
    async fn cpu_time_of_grandchildren_is_counted() {
        let script = "sh -c 'i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done; sleep 60'; sleep 60";
        let child = Program::new("sh").args(["-c", script]).spawn().unwrap();
        let monitor = Monitor::start(&[child.pid()]);
        let until = Instant::now() + Duration::from_secs(30);
        while monitor.usage().cpu_seconds < 0.05 || monitor.usage().memory.is_empty() {
            assert!(Instant::now() < until, "{:?}", monitor.usage());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let usage = monitor.usage();
        assert!(usage.peak_mib > 0.1);
        assert!(usage.cpu_by_pid[&child.pid()] >= 0.05, "{usage:?}");
    }
}
