//! `docs/files.md` tells every source file's purpose, in the words of the file itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use testbed::workspace;

/// In the order in which data flows; what is never deployed comes last.
const CRATES: [&str; 7] = [
    "model",
    "service",
    "rebootstrap",
    "ingester",
    "publisher",
    "streamer",
    "testbed",
];

const README: &str = "#![doc = include_str!(\"../README.md\")]";

/// Every source file below `folder`, sorted; tests that lie beside the code they test are not told.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The first sentence of a file's own documentation.
fn purpose(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    if text.starts_with(README) {
        return "The crate; its documentation is its README.md.".to_owned();
    }
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<_> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    assert!(
        !paragraph.is_empty(),
        "{} does not say what it is for",
        path.display()
    );
    match paragraph.split_once(". ") {
        Some((sentence, _)) => format!("{sentence}."),
        None => paragraph,
    }
}

fn map() -> String {
    let root = workspace::root().unwrap();
    let mut map = String::from(
        "# What each file is for\n\nIn the words of the files themselves, which a test holds this page against. How they \
         belong together is in [ARCHITECTURE.md](../ARCHITECTURE.md).\n",
    );
    for name in CRATES {
        let folder = root.join("crates").join(name);
        write!(map, "\n## {name}\n\n").unwrap();
        for path in sources(&folder.join("src")) {
            let shown = path.strip_prefix(&root).unwrap().display().to_string();
            let short = path
                .strip_prefix(folder.join("src"))
                .unwrap()
                .display()
                .to_string();
            writeln!(map, "- [{short}](../{shown}): {}", purpose(&path)).unwrap();
        }
    }
    map
}

#[test]
fn every_source_file_is_told_in_its_own_words() {
    let page = workspace::root().unwrap().join("docs/files.md");
    let map = map();
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&page, &map).unwrap();
    }
    let told = fs::read_to_string(&page).unwrap();
    assert_eq!(
        told, map,
        "run this test with WRITE_DOCS=1 to write docs/files.md anew"
    );
}
