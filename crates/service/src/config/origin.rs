//! Where the value of a setting comes from.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value, or an error in it, comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The service's default.
    Default,
    /// The configuration file.
    File {
        /// Its path as given.
        path: PathBuf,
        /// The line of the key, counted from 1; none for the file as a whole.
        line: Option<usize>,
    },
    /// A variable of the environment.
    Variable(String),
    /// The content of the file that a `…_file` key names.
    Content {
        /// The file.
        path: PathBuf,
        /// Where the `…_file` key is set.
        named_by: Box<Self>,
    },
}

impl Origin {
    pub(super) fn file(path: &Path, line: Option<usize>) -> Self {
        let path = path.to_owned();
        Self::File { path, line }
    }

    /// Sorts by layer, within the file by line.
    pub(super) fn rank(&self) -> (u8, usize) {
        match self.setter() {
            Self::File { line, .. } => (0, line.unwrap_or(0)),
            Self::Variable(_) => (1, 0),
            _ => (2, 0),
        }
    }

    /// Where the key is set: for a file's content, where the `…_file` key is.
    pub(super) fn setter(&self) -> &Self {
        match self {
            Self::Content { named_by, .. } => named_by,
            other => other,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Content { path, named_by } => write!(f, "file {} named by {named_by}", path.display()),
        }
    }
}
