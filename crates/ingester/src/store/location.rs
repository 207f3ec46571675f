//! Where a state file is: its path without symbolic links, and the type of its file system. Opens no file.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// File systems whose locks and shared memory are not reliable, as named in `/proc/self/mountinfo`.
const NETWORK_FILE_SYSTEMS: [&str; 8] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.rclone",
];

/// Maximum number of symbolic links that lead to the file, as in Linux.
const MAX_LINKS: usize = 40;

/// Returns the path without symbolic links. The file need not exist, but its folder must.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // `canonicalize` alone fails on a link to a file that does not exist yet.
    for _ in 0..MAX_LINKS {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize()?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        path = folder.join(name);
        match path.read_link() {
            Ok(target) => path = folder.join(target),
            // Not a link, or no file yet.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Returns the type of the file system of `path`, which has no symbolic links, if it is a network file system.
pub(super) fn network_file_system(path: &Path) -> Option<String> {
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let file_system = file_system(&mounts, path)?;
    let is_network = NETWORK_FILE_SYSTEMS.contains(&file_system.as_str());
    is_network.then_some(file_system)
}

/// Returns the type of the file system of `path` among `mounts`, which have the format of `/proc/self/mountinfo`.
fn file_system(mounts: &[u8], path: &Path) -> Option<String> {
    let mounts = mounts.split(|byte| *byte == b'\n').filter_map(mount);
    // Of several mounts at one point the last one is visible.
    let mount = mounts
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.components().count());
    mount.map(|(_, file_system)| file_system)
}

/// Parses mount point and type of a line.
fn mount(line: &[u8]) -> Option<(PathBuf, String)> {
    let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
    let point = OsString::from_vec(unescaped(fields.get(4)?));
    let separator = fields.iter().position(|field| *field == b"-")?;
    let file_system = String::from_utf8_lossy(fields.get(separator + 1)?).into_owned();
    Some((point.into(), file_system))
}

/// Replaces octal escapes, such as `\040` for a space.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(field.len()), field);
    while let [first, tail @ ..] = rest {
        let escaped = if *first == b'\\' {
            tail.get(..3).and_then(octal)
        } else {
            None
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_also_to_a_file_that_does_not_exist() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let link = |from: &str, to: &str| std::os::unix::fs::symlink(to, root.join(from)).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        link("folder", "real");
        link("file", "folder/state.db");
        link("again", "file");
        link("loop", "loop");
        let expected = root.join("real/state.db");
        let paths = [
            "real/state.db",
            "folder/state.db",
            "real/../folder/./state.db",
            "file",
            "again",
        ];
        for path in paths {
            assert_eq!(resolve(&root.join(path)).unwrap(), expected, "{path}");
        }
        std::fs::write(&expected, "").unwrap();
        assert_eq!(resolve(&root.join("again")).unwrap(), expected);
        resolve(&root.join("missing/state.db")).unwrap_err();
        resolve(&root.join("loop")).unwrap_err();
        assert!(resolve(Path::new("state.db")).unwrap().is_absolute());
    }

    #[test]
    fn file_system_is_that_of_the_longest_mount_point() {
        let mounts = br"22 1 0:21 / / rw,relatime shared:1 - overlay overlay rw
23 22 0:22 / /data rw shared:2 master:3 - ext4 /dev/sda1 rw
24 23 0:23 / /data/share\040one rw - nfs4 server:/x rw
25 22 0:24 / /over rw - ext4 /dev/sda2 rw
26 22 0:25 / /over rw - cifs //server/x rw
";
        for (path, expected) in [
            ("/state.db", "overlay"),
            ("/data/state.db", "ext4"),
            ("/database/state.db", "overlay"),
            ("/data/share one/a/state.db", "nfs4"),
            ("/data/share/state.db", "ext4"),
            ("/over/state.db", "cifs"),
        ] {
            assert_eq!(
                file_system(mounts, Path::new(path)).as_deref(),
                Some(expected),
                "{path}"
            );
        }
        assert_eq!(file_system(b"", Path::new("/state.db")), None);
        assert_eq!(unescaped(br"a\040\134\11b\"), br"a \\11b\");
    }

    #[test]
    fn temporary_folder_is_on_no_network_file_system() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(network_file_system(folder.path()), None);
    }
}
