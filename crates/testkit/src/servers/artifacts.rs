//! Jars from Maven Central, fetched once into the target folder and shared by all processes.
//!
//! Only a POM names versions. A copy is stored next to the jars, which are fetched again when the two differ.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::version;
use crate::process::{ProcessError, Program};
use crate::workspace::{self, WorkspaceError};

const SERVERS: &str = include_str!("../../servers/pom.xml");
const STAMP: &str = "fetched.pom.xml";

/// For 200 jars of 234 MB on a slow network.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);

/// Software from Maven Central.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Software {
    /// The profile of the POM.
    pub profile: &'static str,
    /// The POM that pins its versions.
    pub pom: &'static str,
    /// The folder of its jars below the target folder.
    pub folder: &'static str,
    /// The environment variable that replaces the version of the POM, if there is one.
    pub version: Option<&'static str>,
}

impl Software {
    /// Apache Kafka with its tools.
    pub const KAFKA: Self = Self::server("kafka", version::KAFKA);
    /// Apache Cassandra.
    pub const CASSANDRA: Self = Self::server("cassandra", version::CASSANDRA);

    const fn server(profile: &'static str, version: &'static str) -> Self {
        Self {
            profile,
            pom: SERVERS,
            folder: "servers",
            version: Some(version),
        }
    }
}

/// Why jars could not be provided.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum ArtifactError {
    #[error("failed to find a folder for the jars")]
    Workspace(#[from] WorkspaceError),
    #[error("failed to access {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("another process holds {} for more than {waited:?}", path.display())]
    Locked { path: PathBuf, waited: Duration },
    #[error("failed to run mvn")]
    Maven(#[source] ProcessError),
    #[error("mvn failed to fetch {profile}:\n{log}")]
    Fetch { profile: &'static str, log: String },
}

/// Returns the folder of the jars of `software`. Fetches them first when they are absent or of other versions.
///
/// # Errors
/// When Maven is absent or fails, with its last lines.
pub async fn jars(software: Software) -> Result<PathBuf, ArtifactError> {
    let jars = folder_of(software)?;
    let parent = jars.with_file_name("");
    fs::create_dir_all(&parent).map_err(file_error(&parent))?;
    let _lock = lock(&beside(&jars, "lock")).await?;
    if !is_current(software, &jars) {
        fetch(software, &jars).await?;
    }
    Ok(jars)
}

/// The folder of the jars of `software`, fetched or not.
pub(super) fn folder_of(software: Software) -> Result<PathBuf, WorkspaceError> {
    let version = software.version.and_then(version::of);
    let name = [Some(software.profile.to_owned()), version].into_iter().flatten();
    Ok(workspace::target_dir()?
        .join(software.folder)
        .join(name.collect::<Vec<_>>().join("-")))
}

/// The path with this extension beside the folder of the jars, whose name has the dots of a version.
fn beside(jars: &Path, extension: &str) -> PathBuf {
    let name = jars.file_name().unwrap_or_default().to_string_lossy();
    jars.with_file_name(format!("{name}.{extension}"))
}

/// Whether the jars of `software` are fetched, so that [`jars`] returns at once.
pub fn are_fetched(software: Software) -> bool {
    folder_of(software).is_ok_and(|jars| is_current(software, &jars))
}

fn is_current(software: Software, jars: &Path) -> bool {
    fs::read_to_string(jars.join(STAMP)).is_ok_and(|stamp| stamp == software.pom)
}

/// Fetches into another folder and renames it, so that an interrupted fetch is never used.
async fn fetch(software: Software, jars: &Path) -> Result<(), ArtifactError> {
    let partial = beside(jars, "partial");
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
    let version = software.version.and_then(version::of);
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
        .args(version.map(|version| format!("-D{}.version={version}", software.profile)))
        .log_to(&log)
        .spawn()
        .map_err(ArtifactError::Maven)?;
    let status = child.wait(FETCH_TIMEOUT).await.map_err(ArtifactError::Maven)?;
    if status.success() {
        Ok(())
    } else {
        Err(ArtifactError::Fetch {
            profile: software.profile,
            log: child.last_lines(40),
        })
    }
}

/// Waits for the lock, which is released when its holder closes the file or ends.
async fn lock(path: &Path) -> Result<File, ArtifactError> {
    let file = File::create(path).map_err(file_error(path))?;
    let until = Instant::now() + FETCH_TIMEOUT;
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
                    waited: FETCH_TIMEOUT,
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
