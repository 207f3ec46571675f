//! Jars from Maven Central, fetched once into the target folder and shared by all test processes.
//!
//! A POM is the only place that names versions. A copy is stored next to the jars; the jars are fetched again when the
//! two differ.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::process::{ProcessError, Program};
use crate::workspace::{self, WorkspaceError};

const SERVERS: &str = include_str!("../../servers/pom.xml");
const STAMP: &str = "fetched.pom.xml";

/// Two hundred jars of 234 MB over a slow line.
const FETCH_DEADLINE: Duration = Duration::from_secs(600);

/// Software from Maven Central: a profile of a POM and the folder of its jars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Software {
    /// The profile of the POM.
    pub profile: &'static str,
    /// The POM that pins its versions.
    pub pom: &'static str,
    /// The folder below the target folder.
    pub shelf: &'static str,
}

impl Software {
    /// Apache Kafka with its tools.
    pub const KAFKA: Self = Self::server("kafka");
    /// Apache Cassandra.
    pub const CASSANDRA: Self = Self::server("cassandra");

    const fn server(profile: &'static str) -> Self {
        Self {
            profile,
            pom: SERVERS,
            shelf: "servers",
        }
    }
}

/// Why there are no jars.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The target folder was not found.
    #[error("no place for the jars")]
    Workspace(#[from] WorkspaceError),
    /// A file could not be read, written, locked or moved.
    #[error("cannot use {}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Another process holds the lock for longer than a fetch may take.
    #[error("another process holds {} for more than {waited:?}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Maven could not be run, or did not end in time.
    #[error("cannot run mvn")]
    Maven(#[source] ProcessError),
    /// Maven ended with an error.
    #[error("mvn could not fetch {what}:\n{log}")]
    Fetch {
        /// The profile that was fetched.
        what: &'static str,
        /// The end of Maven's output.
        log: String,
    },
}

/// The folder that holds every jar of `software`, fetched first when absent or of other versions.
///
/// # Errors
/// When Maven is absent or fails; its own last lines are in the error.
pub async fn jars(software: Software) -> Result<PathBuf, ArtifactError> {
    let jars = folder_of(software)?;
    let shelf = jars.with_file_name("");
    fs::create_dir_all(&shelf).map_err(file_error(&shelf))?;
    let _lock = lock(&shelf.join(format!("{}.lock", software.profile))).await?;
    if !is_current(software, &jars) {
        fetch(software, &shelf, &jars).await?;
    }
    Ok(jars)
}

/// Where the jars of `software` lie once they are fetched.
pub(super) fn folder_of(software: Software) -> Result<PathBuf, WorkspaceError> {
    Ok(workspace::target_dir()?
        .join(software.shelf)
        .join(software.profile))
}

fn is_current(software: Software, jars: &Path) -> bool {
    fs::read_to_string(jars.join(STAMP)).is_ok_and(|stamp| stamp == software.pom)
}

/// Fetches beside the final place and moves, so that an interrupted fetch is never taken for a whole one.
async fn fetch(software: Software, shelf: &Path, jars: &Path) -> Result<(), ArtifactError> {
    let partial = shelf.join(format!("{}.partial", software.profile));
    for folder in [&partial, jars] {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(file_error(folder))?;
        }
    }
    fs::create_dir_all(&partial).map_err(file_error(&partial))?;
    let stamp = partial.join(STAMP);
    fs::write(&stamp, software.pom).map_err(file_error(&stamp))?;
    run_maven(software, &stamp, &partial).await?;
    fs::rename(&partial, jars).map_err(file_error(jars))
}

async fn run_maven(software: Software, pom: &Path, output: &Path) -> Result<(), ArtifactError> {
    let log = output.join("maven.log");
    let child = Program::new("mvn")
        .args([
            "--quiet",
            "--batch-mode",
            "--no-transfer-progress",
            "-Dstyle.color=never",
        ])
        .args(["--activate-profiles", software.profile, "--file"])
        .arg(pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", output.display()))
        .log_to(&log)
        .spawn()
        .map_err(ArtifactError::Maven)?;
    let status = child.wait(FETCH_DEADLINE).await.map_err(ArtifactError::Maven)?;
    if status.success() {
        Ok(())
    } else {
        Err(ArtifactError::Fetch {
            what: software.profile,
            log: child.last_lines(40),
        })
    }
}

/// Waits for the lock; it is released when the file is closed, also by a killed holder.
async fn lock(path: &Path) -> Result<File, ArtifactError> {
    let file = File::create(path).map_err(file_error(path))?;
    let until = Instant::now() + FETCH_DEADLINE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(source)) => {
                return Err(ArtifactError::File {
                    path: path.to_path_buf(),
                    source,
                });
            }
            Err(fs::TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(ArtifactError::Locked {
                    path: path.to_path_buf(),
                    waited: FETCH_DEADLINE,
                });
            }
            Err(fs::TryLockError::WouldBlock) => sleep(Duration::from_millis(50)).await,
        }
    }
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> ArtifactError {
    let path = path.to_path_buf();
    |source| ArtifactError::File { path, source }
}
