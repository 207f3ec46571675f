//! Where the running test, bench or demo finds the build it belongs to: target folder, binaries, repository.
//!
//! It only looks; it builds nothing and creates no folder.

use std::path::{Path, PathBuf};

/// Why a place of the build was not found.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The operating system does not say which executable this is.
    #[error("the path of the running executable is unknown")]
    Executable(#[source] std::io::Error),
    /// The executable does not lie in a Cargo target folder.
    #[error("{} does not lie in a Cargo target folder", .0.display())]
    NoTarget(PathBuf),
    /// No `Cargo.toml` with a `[workspace]` was found around the target folder or the working folder.
    #[error("no workspace found around {}", .0.display())]
    NoRoot(PathBuf),
    /// A binary of the workspace is not built yet.
    #[error("{} is not built: run `cargo build --release -p {name}` first", path.display())]
    NotBuilt {
        /// The binary's name.
        name: String,
        /// Where it was expected.
        path: PathBuf,
    },
}

/// The folder of the profile this process was built with, such as `target/release`.
///
/// # Errors
/// When the executable was moved out of Cargo's target folder.
pub fn profile_dir() -> Result<PathBuf, WorkspaceError> {
    let executable = std::env::current_exe().map_err(WorkspaceError::Executable)?;
    profile_dir_of(&executable).ok_or(WorkspaceError::NoTarget(executable))
}

/// Cargo's target folder, the parent of [`profile_dir`].
///
/// # Errors
/// When the executable was moved out of Cargo's target folder.
pub fn target_dir() -> Result<PathBuf, WorkspaceError> {
    let profile = profile_dir()?;
    profile
        .parent()
        .map(Path::to_path_buf)
        .ok_or(WorkspaceError::NoTarget(profile))
}

/// The repository's root: the folder of the workspace's `Cargo.toml`, looked for above the target folder and,
/// for a target folder elsewhere, above the working folder.
///
/// # Errors
/// When neither lies in a workspace.
pub fn root() -> Result<PathBuf, WorkspaceError> {
    let target = target_dir()?;
    let working = std::env::current_dir().unwrap_or_default();
    let mut above = target.ancestors().chain(working.ancestors());
    let found = above.find(|folder| is_workspace(folder)).map(Path::to_path_buf);
    found.ok_or(WorkspaceError::NoRoot(target))
}

/// The path of a built binary of the workspace, of the same profile as this process.
///
/// # Errors
/// [`WorkspaceError::NotBuilt`], with the command that builds it, when it is absent.
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

/// Tests and examples lie one folder below the profile's.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_and_a_binary_share_the_folder_of_their_profile() {
        let expected = Some(PathBuf::from("/x/target/release"));
        assert_eq!(
            profile_dir_of(Path::new("/x/target/release/deps/servers-0a1b")),
            expected
        );
        assert_eq!(profile_dir_of(Path::new("/x/target/release/testkit")), expected);
    }

    #[test]
    fn the_root_holds_the_crate_that_asks() {
        assert!(root().unwrap().join("crates/testkit/Cargo.toml").is_file());
    }

    #[test]
    fn a_binary_that_is_not_built_is_named_with_the_command_that_builds_it() {
        let error = binary("no-such-binary").unwrap_err().to_string();
        assert!(
            error.contains("cargo build --release -p no-such-binary"),
            "{error}"
        );
    }
}
