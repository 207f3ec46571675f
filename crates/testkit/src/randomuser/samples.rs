//! Whole replies kept in a folder, served in place of generated people.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Why a folder of replies can't be served.
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    /// The folder or a file in it can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A `.json` file holds something else than JSON of the API.
    #[error("{} is no reply of the API", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// No file of the folder holds a whole reply.
    #[error("{} holds no whole reply", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
}

/// The records of all whole replies of a folder, newest version first, then by file name.
#[derive(Debug)]
pub(super) struct Samples {
    records: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Reply {
    /// Absent in a file that holds a single record.
    results: Option<Vec<Box<RawValue>>>,
    #[serde(default)]
    info: Info,
}

#[derive(Default, Deserialize)]
struct Info {
    #[serde(default)]
    version: String,
}

impl Samples {
    /// Reads every `.json` file of the folder; one without a list of results is passed over.
    pub(super) fn read(folder: &Path) -> Result<Self, SamplesError> {
        let mut replies = Vec::new();
        for path in json_files(folder)? {
            let text = fs::read_to_string(&path).map_err(|source| SamplesError::Read {
                path: path.clone(),
                source,
            })?;
            let reply: Reply = serde_json::from_str(&text).map_err(|source| SamplesError::Parse {
                path: path.clone(),
                source,
            })?;
            replies.push(reply);
        }
        replies.sort_by(|one, other| other.info.version.cmp(&one.info.version));
        let records: Vec<_> = replies
            .into_iter()
            .filter_map(|reply| reply.results)
            .flatten()
            .collect();
        if records.is_empty() {
            return Err(SamplesError::Empty {
                folder: folder.into(),
            });
        }
        Ok(Self { records })
    }

    /// The records of a page; fewer than `results`, or none, past the end.
    pub(super) fn page(&self, page: usize, results: usize) -> &[Box<RawValue>] {
        self.records.chunks(results).nth(page - 1).unwrap_or_default()
    }
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>, SamplesError> {
    let failed = |source| SamplesError::Read {
        path: folder.into(),
        source,
    };
    let entries: Vec<_> = fs::read_dir(folder).and_then(Iterator::collect).map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    Ok(paths)
}
