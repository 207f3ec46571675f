//! The settings that name the record's contract. Publisher and streamer have the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Contract, ContractError};
use serde::{Deserialize, Serialize};

use super::error::{Violation, Violations};
use super::value::list::List;
use super::value::topic_name::TopicName;

/// The record that a process serves: a message of a `.proto` file, or the compiled-in user.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordSettings {
    /// The `.proto` file; none: the compiled-in `affluent.users.v1.User`.
    pub proto: Option<PathBuf>,
    /// Folders in which the file's imports are searched, before its own folder.
    pub include: List,
    /// The full name of the message; none: the only one of the file with the option `record`.
    pub message: Option<String>,
}

impl RecordSettings {
    /// Adds the rules that the settings break. Reads no file.
    pub fn validate(&self, violations: &mut Violations) {
        let has_proto = self.proto.is_some();
        let reason = "must not be set without record.proto";
        violations.require(has_proto || self.include.is_empty(), "record.include", reason);
        violations.require(has_proto || self.message.is_none(), "record.message", reason);
    }

    /// Adds why the contract is refused, if it is.
    pub fn check_files(&self, violations: &mut Violations) {
        if let Err(Violation { key, reason }) = self.load() {
            violations.add(key, reason);
        }
    }

    /// Reads and compiles the contract. Takes milliseconds.
    ///
    /// # Errors
    /// Why the contract is refused, with the key that is at fault.
    pub fn load(&self) -> Result<Arc<Contract>, Violation> {
        let Some(proto) = &self.proto else {
            return Ok(Contract::user());
        };
        if !proto.is_file() {
            return Err(violation(
                "record.proto",
                format!("{} is not a file", proto.display()),
            ));
        }
        let include: Vec<_> = self.include.iter().map(PathBuf::from).collect();
        if let Some(missing) = include.iter().find(|folder| !folder.is_dir()) {
            return Err(violation(
                "record.include",
                format!("{} is not a folder", missing.display()),
            ));
        }
        let loaded = Contract::load(proto, &include, self.message.as_deref());
        loaded.map(Arc::new).map_err(|error| refused(proto, &error))
    }
}

fn refused(proto: &Path, error: &ContractError) -> Violation {
    match error {
        ContractError::NoMessage { .. } => violation("record.message", error.to_string()),
        ContractError::Proto(_) => {
            let reason = format!("failed to compile {}: {error}", proto.display());
            violation("record.proto", reason)
        }
        ContractError::NotOneMessage { .. } | ContractError::Unsupported { .. } => {
            violation("record.proto", error.to_string())
        }
    }
}

fn violation(key: &str, reason: String) -> Violation {
    let key = key.to_owned();
    Violation { key, reason }
}

/// The topic of a contract's records if the settings name none: the resource and `_created`.
#[must_use]
pub fn default_topic(contract: &Contract) -> TopicName {
    let name = contract.default_topic();
    TopicName::try_from(name).expect("a resource has characters that a topic may have")
}
