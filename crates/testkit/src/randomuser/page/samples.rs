//! Stored responses of the real API, served instead of generated people.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Why a folder of samples can't be served.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum SamplesError {
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a response of the API", path.display())]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} contains no complete response", folder.display())]
    Empty { folder: PathBuf },
}

/// The records of all complete responses of a folder, newest version first, then by file name.
#[derive(Debug)]
pub(crate) struct Samples {
    records: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct StoredResponse {
    /// Absent in a file with a single record.
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
    /// Reads every `.json` file of the folder and ignores files without a list of results.
    pub(crate) fn read(folder: &Path) -> Result<Self, SamplesError> {
        let mut responses = Vec::new();
        for path in json_files(folder)? {
            let text = fs::read_to_string(&path).map_err(|source| SamplesError::Read {
                path: path.clone(),
                source,
            })?;
            let response: StoredResponse =
                serde_json::from_str(&text).map_err(|source| SamplesError::Parse {
                    path: path.clone(),
                    source,
                })?;
            responses.push(response);
        }
        responses.sort_by(|one, other| other.info.version.cmp(&one.info.version));
        let records: Vec<_> = responses
            .into_iter()
            .filter_map(|response| response.results)
            .flatten()
            .collect();
        if records.is_empty() {
            return Err(SamplesError::Empty {
                folder: folder.into(),
            });
        }
        Ok(Self { records })
    }

    /// Returns the records of a page; fewer than `results` at the end, none after it.
    pub(crate) fn page(&self, page: usize, results: usize) -> &[Box<RawValue>] {
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
