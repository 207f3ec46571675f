//! `testkit pool -- COMMAND`: runs a command whose tests share servers.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::TestkitError;
use crate::servers::{Pool, pool};
use crate::workspace;

/// The share of the machine's memory that servers may use: builds, browsers and the tests themselves need the rest.
const MEMORY_SHARE: f64 = 0.6;

/// Run a command whose tests share Kafka and Cassandra
#[derive(Debug, Args)]
pub(super) struct PoolCommand {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl PoolCommand {
    pub(super) async fn run(self) -> Result<ExitCode, TestkitError> {
        let folder = workspace::target_dir()?.join("testkit");
        let folder = tempfile::Builder::new()
            .prefix("pool-")
            .tempdir_in(create(folder)?)
            .map_err(TestkitError::file("target/testkit"))?;
        let socket = folder.path().join("socket");
        let pool = Arc::new(Pool::new(folder.path().to_path_buf(), budget_mib()));
        let listener = Pool::bind(&socket)?;
        let (program, arguments) = self.command.split_first().expect("clap requires a command");
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .arg(program)
            .args(arguments)
            .env(pool::SOCKET, &socket)
            .spawn()
            .map_err(|source| TestkitError::Command(program.to_string_lossy().into_owned(), source))?;
        let mut terminate =
            signal(SignalKind::terminate()).map_err(TestkitError::file("the handler of SIGTERM"))?;
        let status = tokio::select! {
            status = child.wait() => status,
            served = Arc::clone(&pool).serve(listener) => return served.map(|()| ExitCode::FAILURE).map_err(Into::into),
            // The terminal sends SIGINT to the command, too, which then ends by itself.
            _ = tokio::signal::ctrl_c() => child.wait().await,
            // The parent-death signal ends the command.
            _ = terminate.recv() => return Ok(ExitCode::FAILURE),
        };
        let status =
            status.map_err(|source| TestkitError::Command(program.to_string_lossy().into_owned(), source))?;
        eprintln!("server pool: {} server processes started", pool.starts());
        Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

fn create(folder: std::path::PathBuf) -> Result<std::path::PathBuf, TestkitError> {
    std::fs::create_dir_all(&folder).map_err(TestkitError::file(&folder))?;
    Ok(folder)
}

/// From `/proc/meminfo`; 8 GiB where that can't be read.
fn budget_mib() -> u64 {
    let total_kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches(" kB").parse::<f64>().ok()
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of the machine's memory, in MiB"
    )]
    total_kib.map_or(8 * 1024, |kib| (kib * MEMORY_SHARE / 1024.0) as u64)
}
