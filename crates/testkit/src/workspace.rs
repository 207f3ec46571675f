//! Paths of the build that the running test, bench or demo belongs to: target folder, binaries, repository.
//!
//! Builds nothing and creates no folder.

use std::path::{Path, PathBuf};

/// Why a path of the build was not found.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum WorkspaceError {
    #[error("failed to find the running executable")]
    Executable(#[source] std::io::Error),
    #[error("{} is not in a Cargo target folder", .0.display())]
    NoTarget(PathBuf),
    #[error("no Cargo workspace above {} or the working folder", .0.display())]
    NoRoot(PathBuf),
    #[error("{} is not built: run `cargo build --release -p {name}` first", path.display())]
    NotBuilt { name: String, path: PathBuf },
}

/// The folder of the profile this process was built with, such as `target/release`. Fails outside of a target folder.
pub fn profile_dir() -> Result<PathBuf, WorkspaceError> {
    let executable = std::env::current_exe().map_err(WorkspaceError::Executable)?;
    profile_dir_of(&executable).ok_or(WorkspaceError::NoTarget(executable))
}

/// Cargo's target folder, the parent of [`profile_dir`].
pub fn target_dir() -> Result<PathBuf, WorkspaceError> {
    let profile = profile_dir()?;
    profile
        .parent()
        .map(Path::to_path_buf)
        .ok_or(WorkspaceError::NoTarget(profile))
}

/// The folder of the workspace's `Cargo.toml`, above the target folder or else above the working folder.
pub fn root() -> Result<PathBuf, WorkspaceError> {
    let target = target_dir()?;
    let working = std::env::current_dir().unwrap_or_default();
    let mut above = target.ancestors().chain(working.ancestors());
    let found = above.find(|folder| is_workspace(folder)).map(Path::to_path_buf);
    found.ok_or(WorkspaceError::NoRoot(target))
}

/// The path of a built binary of the workspace, of the same profile as this process.
pub fn binary(name: &str) -> Result<PathBuf, WorkspaceError> {
    let path = profile_dir()?.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(WorkspaceError::NotBuilt {
            name: name.to_owned(),
            path,
        })
    }
}

/// Tests and examples are in a folder of the profile's folder.
fn profile_dir_of(executable: &Path) -> Option<PathBuf> {
    let folder = executable.parent()?;
    match folder.file_name()?.to_str()? {
        "deps" | "examples" => folder.parent().map(Path::to_path_buf),
        _ => Some(folder.to_path_buf()),
    }
}

fn is_workspace(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("[workspace]"))
}

/// Whether tests run at full length (`scripts/test --full`): `AFFLUENT_TEST_FULL` is set. The gate shortens storms and soaks.
pub fn is_full_test_run() -> bool {
    std::env::var_os("AFFLUENT_TEST_FULL").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_binaries_share_the_profile_folder() {
        let expected = Some(PathBuf::from("/x/target/release"));
        assert_eq!(
            profile_dir_of(Path::new("/x/target/release/deps/servers-0a1b")),
            expected
        );
        assert_eq!(profile_dir_of(Path::new("/x/target/release/testkit")), expected);
    }

    #[test]
    fn root_contains_this_crate() {
        assert!(root().unwrap().join("crates/testkit/Cargo.toml").is_file());
    }

    #[test]
    fn missing_binary_is_reported_with_its_build_command() {
        let error = binary("no-such-binary").unwrap_err().to_string();
        assert!(
            error.contains("cargo build --release -p no-such-binary"),
            "{error}"
        );
    }
}
