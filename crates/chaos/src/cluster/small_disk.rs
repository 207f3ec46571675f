//! Small file systems that can be filled or made read-only: images, mounted below `target/`.
//!
//! Only root can mount. Without it, the campaign refuses the scenarios before it starts a server.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

const FILLER: &str = "filler";
/// Prefix of the folders, before the owner's process id.
const PREFIX: &str = "chaos-disk-";
/// Size of the probe in MiB.
const PROBE_SIZE: u64 = 4;

/// A mounted image, removed on drop.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    folder: PathBuf,
    image: PathBuf,
    mount: PathBuf,
}

impl SmallDisk {
    /// Why this machine cannot mount one below `base`, or `None` if it can.
    pub(crate) fn unavailable(base: &Path) -> Option<String> {
        if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
            return Some("only root can mount a small disk".to_owned());
        }
        let tool = Command::new("mkfs.ext4")
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if tool.is_err() {
            return Some("mkfs.ext4 is missing; install e2fsprogs".to_owned());
        }
        // A container may run as root without the right to mount.
        Self::create(base, PROBE_SIZE)
            .err()
            .map(|error| format!("{error:#}"))
    }

    /// Creates and mounts an image in a new folder below `base`.
    pub(crate) fn create(base: &Path, megabytes: u64) -> Result<Self> {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let folder = base.join(format!("{PREFIX}{}-{unique}", std::process::id()));
        let disk = Self {
            image: folder.join("disk.img"),
            mount: folder.join("disk"),
            folder,
        };
        fs::create_dir_all(&disk.mount).with_context(|| in_use(&disk.mount))?;
        let image = File::create(&disk.image).and_then(|image| image.set_len(megabytes << 20));
        image.with_context(|| in_use(&disk.image))?;
        // Blocks of a page, so that a write to a mapped page allocates all of it.
        run(
            "mkfs.ext4",
            &["-q", "-F", "-m", "0", "-b", "4096"],
            &[&disk.image],
        )?;
        disk.mount()?;
        fs::create_dir_all(disk.path()).with_context(|| in_use(&disk.path()))?;
        Ok(disk)
    }

    /// The folder for files.
    pub(crate) fn path(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Uses every free byte.
    pub(crate) fn fill(&self) -> Result<()> {
        let path = self.mount.join(FILLER);
        let mut filler = File::create(&path).with_context(|| in_use(&path))?;
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            loop {
                match filler.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).with_context(|| in_use(&path)),
                }
            }
        }
        Ok(())
    }

    /// Frees what [`Self::fill`] uses.
    pub(crate) fn free(&self) -> Result<()> {
        let path = self.mount.join(FILLER);
        fs::remove_file(&path).with_context(|| in_use(&path))
    }

    /// Makes it read-only, as the kernel does after a disk error.
    pub(crate) fn abort(&self) -> Result<()> {
        run("mount", &["-o", "remount,abort"], &[&self.mount])
    }

    /// Checks and remounts it; no file of it may be open.
    pub(crate) fn repair(&self) -> Result<()> {
        run("umount", &[], &[&self.mount])?;
        // Its exit code reports the replayed journal.
        drop(run("e2fsck", &["-p", "-f"], &[&self.image]));
        self.mount()
    }

    /// Mounts with synchronous writes, so that an aborted file system loses nothing.
    fn mount(&self) -> Result<()> {
        run("mount", &["-o", "loop,sync"], &[&self.image, &self.mount])
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because an exiting process may have a file open.
        drop(run("umount", &["-l"], &[&self.mount]));
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Removes the disks below `base` whose owners have exited.
pub(crate) fn remove_orphans(base: &Path) {
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
        drop(run("umount", &["-l"], &[&folder.join("disk")]));
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "failed to remove an orphaned disk");
        }
    }
}

fn run(tool: &str, options: &[&str], paths: &[&PathBuf]) -> Result<()> {
    let mut command = Command::new(tool);
    command.args(options).args(paths).stdin(Stdio::null());
    let output = command.output();
    let failed = || format!("failed to run {command:?}");
    let output = output.with_context(failed)?;
    ensure!(
        output.status.success(),
        "{}: {}",
        failed(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn in_use(path: &Path) -> String {
    format!("failed to use {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_of_dead_owners_are_removed() {
        let base = tempfile::tempdir().unwrap();
        // Above the largest process id of Linux.
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
