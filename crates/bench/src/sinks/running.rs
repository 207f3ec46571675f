//! The processes of a started sink.

use std::any::Any;
use std::time::Duration;

use anyhow::{Result, bail};
use testkit::process::{Child, ProcessError};
use testkit::service::Service;

/// A JVM ends within this time after SIGTERM, or is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of a log that are searched for a failure: more than a sink writes between two checks.
const SEARCHED_LINES: usize = 400;

/// A started sink. Its processes are killed when it is dropped.
pub struct RunningSink {
    processes: Vec<Child>,
    fatal_line: Option<&'static str>,
    resources: Vec<Box<dyn Any + Send + Sync>>,
}

impl RunningSink {
    /// A sink of these processes. The first one's log appears in errors.
    pub fn new(processes: Vec<Child>) -> Self {
        Self {
            processes,
            fatal_line: None,
            resources: Vec::new(),
        }
    }

    /// A sink of services, whose ports stay leased.
    pub fn from_services(mut services: Vec<Service>) -> Self {
        let processes = services.iter_mut().filter_map(Service::take_child).collect();
        Self::new(processes).with_resource(services)
    }

    /// Treats this text in the first process's log as the sink's end, for a process that outlives its work.
    #[must_use]
    pub fn with_fatal_line(self, text: &'static str) -> Self {
        Self {
            fatal_line: Some(text),
            ..self
        }
    }

    /// Keeps a resource, such as a port, until the processes have ended.
    #[must_use]
    pub fn with_resource(mut self, resource: impl Any + Send + Sync) -> Self {
        self.resources.push(Box::new(resource));
        self
    }

    /// The process ids, without descendants.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Child::pid).collect()
    }

    /// The end of the first process's log.
    pub fn last_lines(&self, count: usize) -> String {
        self.processes
            .first()
            .map_or_else(String::new, |child| child.last_lines(count))
    }

    /// Checks that all processes run and work.
    pub fn check(&self) -> Result<()> {
        let failed = self.fatal_line.and_then(|text| {
            let child = self.processes.first()?;
            child.last_lines(SEARCHED_LINES).contains(text).then_some(child)
        });
        let ended = self.processes.iter().find(|child| !child.is_running());
        if let Some(child) = ended.or(failed) {
            bail!("{} ended early:\n{}", child.name(), child.last_lines(30));
        }
        Ok(())
    }

    /// Sends SIGTERM to each process, and SIGKILL to those that do not end.
    pub async fn stop(self) -> Result<()> {
        for child in &self.processes {
            match child.terminate(STOP_TIMEOUT).await {
                Err(ProcessError::StillRunning { .. }) => drop(child.kill().await?),
                Ok(_) | Err(ProcessError::Ended { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::process::Program;

    #[tokio::test]
    async fn fatal_line_in_the_log_counts_as_an_ended_process() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = "echo 'Task is being killed'; exec sleep 60";
        let program = Program::new("sh").args(["-c", script]).log_to(log.path());
        let sink = RunningSink::new(vec![program.spawn().unwrap()]);
        sink.check().unwrap();
        let sink = sink.with_fatal_line("Task is being killed");
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while sink.check().is_ok() {
            assert!(std::time::Instant::now() < until, "{}", sink.last_lines(5));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let error = sink.check().unwrap_err().to_string();
        assert!(error.contains("ended early"), "{error}");
    }
}
