//! Process trees from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// A process in `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Ticks of 10 ms, including ended children.
    ticks: u64,
}

impl Stat {
    /// Reads fields 4 (parent) and 14 to 17 (user, system, and both of the children).
    fn parse(line: &str) -> Option<Self> {
        // The name in parentheses can contain spaces. Field 3 follows it.
        let fields: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: (14..=17).map(number).sum::<Option<u64>>()?,
        })
    }

    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub struct Snapshot(BTreeMap<u32, Stat>);

impl Snapshot {
    /// Takes a snapshot.
    pub fn take() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        Self(pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect())
    }

    /// A process and all its descendants; empty if it has ended.
    pub fn tree(&self, root: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut open: Vec<u32> = self.0.contains_key(&root).then_some(root).into_iter().collect();
        while let Some(pid) = open.pop() {
            if found.insert(pid) {
                let children = self.0.iter().filter(|(_, stat)| stat.parent == pid);
                open.extend(children.map(|(child, _)| *child));
            }
        }
        found
    }

    /// CPU seconds of a tree so far, including ended children; none if its root has ended.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 ticks")]
    pub fn cpu_seconds(&self, root: u32) -> Option<f64> {
        self.0.get(&root)?;
        let tree = self.tree(root);
        let ticks: u64 = tree
            .iter()
            .filter_map(|pid| self.0.get(pid))
            .map(|stat| stat.ticks)
            .sum();
        Some(ticks as f64 / 100.0)
    }
}

/// Resident memory of these processes in MiB. Shared pages count for each process.
pub fn resident_mib(pids: &BTreeSet<u32>) -> f64 {
    pids.iter().filter_map(|pid| super::resident_mib(*pid)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_with_parentheses_is_parsed() {
        let line = "12 (a b) c) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5 6 7";
        let seen = Stat::parse(line).unwrap();
        assert_eq!(
            seen,
            Stat {
                parent: 7,
                ticks: 124
            }
        );
        assert_eq!(Stat::parse("12 (a) S 7"), None);
    }

    #[test]
    fn own_process_is_in_the_snapshot() {
        let now = Snapshot::take();
        let own = now.tree(std::process::id());
        assert!(own.contains(&std::process::id()));
        assert!(resident_mib(&own) > 1.0);
        assert!(now.cpu_seconds(std::process::id()).is_some());
    }

    #[test]
    fn tree_contains_all_descendants_only() {
        let stat = |parent, ticks| Stat { parent, ticks };
        let now = Snapshot(
            [
                (1, stat(0, 1)),
                (2, stat(1, 10)),
                (3, stat(2, 100)),
                (4, stat(1, 1_000)),
            ]
            .into(),
        );
        assert_eq!(now.tree(2), [2, 3].into());
        assert!((now.cpu_seconds(2).unwrap() - 1.1).abs() < 1e-9);
        assert_eq!((now.tree(9), now.cpu_seconds(9)), ([].into(), None));
    }
}
