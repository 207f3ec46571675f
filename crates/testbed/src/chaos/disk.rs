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
    image: PathBuf,
    mount: PathBuf,
}

impl SmallDisk {
    /// Why none can be had here; none, when nothing is known to be in the way.
    #[must_use]
    pub fn obstacle() -> Option<&'static str> {
        if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
            return Some("only root can mount a small disk");
        }
        let tool = Command::new("mkfs.ext4").arg("-V").stderr(Stdio::null()).status();
        tool.is_err()
            .then_some("there is no mkfs.ext4; Debian has it in e2fsprogs")
    }

    /// Makes one of so many MiB beside `folder`'s other files, and mounts it.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn make(folder: &Path, megabytes: u64) -> Result<Self, DiskError> {
        let disk = Self {
            image: folder.join("disk.img"),
            mount: folder.join("disk"),
        };
        let file = |path: &Path| {
            let path = path.to_owned();
            |source| DiskError::File { path, source }
        };
        fs::create_dir_all(&disk.mount).map_err(file(&disk.mount))?;
        let image = File::create(&disk.image).map_err(file(&disk.image))?;
        image.set_len(megabytes << 20).map_err(file(&disk.image))?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0"], &[&disk.image])?;
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
        drop(fs::remove_file(&self.image));
        drop(fs::remove_dir(&self.mount));
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
