//! Processes and their descendants, read from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use testkit::process::usage;

use super::cost::as_f64;

/// The fields of `/proc/<pid>/stat` that count here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// CPU ticks of 10 ms, with those of ended children that were waited for.
    ticks: u64,
}

impl Stat {
    /// Reads fields 4 (parent) and 14 to 17 (user and system time, of the process and of its children).
    fn parse(line: &str) -> Option<Self> {
        // The name in parentheses may hold spaces. Field 3 follows it.
        let fields: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: (14..=17).map(number).sum::<Option<u64>>()?,
        })
    }

    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub struct ProcessTree(BTreeMap<u32, Stat>);

impl ProcessTree {
    /// Reads all processes now.
    pub fn snapshot() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        Self(pids.filter_map(|pid| Some((pid, Stat::read(pid)?))).collect())
    }

    /// A process and its descendants; empty if it has ended.
    pub fn descendants(&self, root: u32) -> BTreeSet<u32> {
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

    /// CPU seconds of a process and its descendants so far; `None` if the process has ended.
    pub fn cpu_seconds(&self, root: u32) -> Option<f64> {
        self.0.get(&root)?;
        let pids = self.descendants(root);
        let ticks: u64 = pids
            .iter()
            .filter_map(|pid| self.0.get(pid))
            .map(|stat| stat.ticks)
            .sum();
        Some(as_f64(ticks) / 100.0)
    }

    /// Resident memory of a process and its descendants, in MiB. Shared pages count once per process.
    pub fn resident_mib(&self, root: u32) -> f64 {
        self.descendants(root)
            .into_iter()
            .filter_map(usage::resident_mib)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_parsed_after_a_name_with_spaces() {
        let line = "12 (a b) c) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5 6 7";
        let expected = Stat {
            parent: 7,
            ticks: 124,
        };
        assert_eq!(Stat::parse(line).unwrap(), expected);
        assert_eq!(Stat::parse("12 (a) S 7"), None);
    }

    #[test]
    fn snapshot_holds_this_process() {
        let tree = ProcessTree::snapshot();
        let own = std::process::id();
        assert!(tree.descendants(own).contains(&own));
        assert!(tree.resident_mib(own) > 1.0);
        assert!(tree.cpu_seconds(own).is_some());
    }

    #[test]
    fn descendants_hold_grandchildren_and_no_siblings() {
        let stat = |parent, ticks| Stat { parent, ticks };
        let tree = ProcessTree(
            [
                (1, stat(0, 1)),
                (2, stat(1, 10)),
                (3, stat(2, 100)),
                (4, stat(1, 1_000)),
            ]
            .into(),
        );
        assert_eq!(tree.descendants(2), [2, 3].into());
        assert!((tree.cpu_seconds(2).unwrap() - 1.1).abs() < 1e-9);
        assert_eq!((tree.descendants(9), tree.cpu_seconds(9)), ([].into(), None));
    }
}
