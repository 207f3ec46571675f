//! A small file system of its own, for what is to find its disk full or read-only: an image, mounted below `target/`.
//!
//! Only root can mount; without it the scenarios that need one are refused before a server is started.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

const FILLER: &str = "filler";
/// Of the folders, before the process id of the owner.
const PREFIX: &str = "chaos-disk-";
/// In MiB: what mkfs makes in an instant.
const SMALLEST: u64 = 4;

/// A file system could not be made or handled.
#[derive(Debug, Error)]
pub enum DiskError {
    /// A tool of the system failed.
    #[error("{command}: {output}")]
    Tool {
        /// What was to be done.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A file.
    #[error("use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A mounted image. Dropped, it is taken away.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    image: PathBuf,
    mount: PathBuf,
}

impl SmallDisk {
    /// Why none can be had below `base`; none, when one could be made there, and was taken away again.
    #[must_use]
    pub fn obstacle(base: &Path) -> Option<String> {
        if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
            return Some("only root can mount a small disk".to_owned());
        }
        let tool = Command::new("mkfs.ext4")
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if tool.is_err() {
            return Some("there is no mkfs.ext4; Debian has it in e2fsprogs".to_owned());
        }
        // A container may have its own root and yet no right to mount.
        Self::make(base, SMALLEST).err().map(|error| error.to_string())
    }

    /// Makes one of so many MiB in a folder of its own below `base`, and mounts it.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn make(base: &Path, megabytes: u64) -> Result<Self, DiskError> {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let folder = base.join(format!("{PREFIX}{}-{unique}", std::process::id()));
        let disk = Self {
            image: folder.join("disk.img"),
            mount: folder.join("disk"),
            folder,
        };
        let file = |path: &Path| {
            let path = path.to_owned();
            |source| DiskError::File { path, source }
        };
        fs::create_dir_all(&disk.mount).map_err(file(&disk.mount))?;
        let image = File::create(&disk.image).map_err(file(&disk.image))?;
        image.set_len(megabytes << 20).map_err(file(&disk.image))?;
        // Blocks as large as a page: whoever writes one byte of a page of a mapped file has all of it then.
        run(
            "mkfs.ext4",
            &["-q", "-F", "-m", "0", "-b", "4096"],
            &[&disk.image],
        )?;
        disk.mount()?;
        fs::create_dir_all(disk.path()).map_err(file(&disk.path()))?;
        Ok(disk)
    }

    /// A folder on it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Takes every free byte.
    ///
    /// # Errors
    /// When it can't be filled.
    pub fn fill(&self) -> Result<(), DiskError> {
        let path = self.mount.join(FILLER);
        let failed = |source| DiskError::File {
            path: path.clone(),
            source,
        };
        let mut filler = File::create(&path).map_err(failed)?;
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            loop {
                match filler.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(())
    }

    /// Gives the bytes back.
    ///
    /// # Errors
    /// When they can't be.
    pub fn empty(&self) -> Result<(), DiskError> {
        let path = self.mount.join(FILLER);
        fs::remove_file(&path).map_err(|source| DiskError::File { path, source })
    }

    /// From now on nothing can be written, as the kernel does it after an error of the disk.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn spoil(&self) -> Result<(), DiskError> {
        run("mount", &["-o", "remount,abort"], &[&self.mount])
    }

    /// Checks it and mounts it anew; nobody may have a file of it open.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn mend(&self) -> Result<(), DiskError> {
        run("umount", &[], &[&self.mount])?;
        // It has a journal to play back, and says so with its exit code.
        drop(run("e2fsck", &["-p", "-f"], &[&self.image]));
        self.mount()
    }

    /// Each write is on the image before it is answered, so that an aborted file system forgets nothing.
    fn mount(&self) -> Result<(), DiskError> {
        run("mount", &["-o", "loop,sync"], &[&self.image, &self.mount])
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is about to die may have a file open.
        drop(run("umount", &["-l"], &[&self.mount]));
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Takes away what processes that have died left below `base`.
pub fn remove_orphans(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(owner) = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok())
        else {
            continue;
        };
        if Path::new("/proc").join(owner.to_string()).exists() {
            continue;
        }
        // It may not be mounted any more.
        drop(run("umount", &["-l"], &[&folder.join("disk")]));
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove an old disk");
        }
    }
}

fn run(tool: &str, options: &[&str], paths: &[&PathBuf]) -> Result<(), DiskError> {
    let mut command = Command::new(tool);
    command.args(options).args(paths).stdin(Stdio::null());
    let output = command.output();
    let failed = |output: String| DiskError::Tool {
        command: format!("{command:?}"),
        output,
    };
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_owner_left_is_taken_away_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        // Linux gives no process this id.
        let (dead, ours) = (
            format!("{PREFIX}4194305-a"),
            format!("{PREFIX}{}-a", std::process::id()),
        );
        for name in [dead.as_str(), ours.as_str(), "logs"] {
            fs::create_dir_all(base.path().join(name).join("disk")).unwrap();
        }
        remove_orphans(base.path());
        assert!(!base.path().join(dead).exists());
        assert!(base.path().join(ours).exists() && base.path().join("logs").exists());
    }
}
