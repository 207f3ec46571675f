//! The thread that starts all children.
//!
//! Linux sends the parent-death signal when the *thread* that forked ends, not the process. A child started from a worker
//! of a test's runtime would die with that test, so this thread lives as long as the process. It is the testkit's only
//! global.

use std::io;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

struct Job {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

static SPAWNER: LazyLock<io::Result<SyncSender<Job>>> = LazyLock::new(|| {
    let (jobs, queue) = sync_channel(1);
    thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || serve(&queue))?;
    Ok(jobs)
});

/// Starts `command` on the spawner's thread.
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    let jobs = SPAWNER
        .as_ref()
        .map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    let (reply, child) = sync_channel(1);
    jobs.send(Job { command, reply }).map_err(|_| ended())?;
    child.recv().map_err(|_| ended())?
}

/// Never returns: the sender is a static.
fn serve(queue: &Receiver<Job>) {
    for Job { mut command, reply } in queue {
        if let Err(unsent) = reply.send(command.spawn()) {
            // The caller waits without a timeout, so its thread has panicked.
            drop(unsent.0.map(|mut child| child.kill()));
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that starts children has ended")
}
