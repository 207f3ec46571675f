//! The record types that the demo and the campaign run with: users, and the contracts in the repository's `examples`.

use std::path::PathBuf;
use std::sync::Arc;

use model::{Contract, ContractError};
use thiserror::Error;

use crate::service::ServiceOptions;
use crate::workspace::{self, WorkspaceError};

/// The record type of the compiled-in contract.
pub const USERS: &str = "users";

/// A contract, and the names that the services derive from it.
#[derive(Debug, Clone)]
pub struct RecordType {
    contract: Arc<Contract>,
    /// `None` for the compiled-in contract.
    proto: Option<PathBuf>,
}

/// Why a record type was not loaded.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum RecordTypeError {
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("no record type {name}: {} does not exist", path.display())]
    Unknown { name: String, path: PathBuf },
    #[error("failed to compile {}", path.display())]
    Contract {
        path: PathBuf,
        source: Box<ContractError>,
    },
}

impl RecordType {
    /// Users.
    pub fn users() -> Self {
        Self {
            contract: Contract::user(),
            proto: None,
        }
    }

    /// [`USERS`], or the contract `examples/NAME/NAME.proto` of the repository.
    pub fn load(name: &str) -> Result<Self, RecordTypeError> {
        if name == USERS {
            return Ok(Self::users());
        }
        let path = workspace::root()?.join("examples").join(name);
        let path = path.join(format!("{name}.proto"));
        if !path.is_file() {
            let name = name.to_owned();
            return Err(RecordTypeError::Unknown { name, path });
        }
        let contract = Contract::load(&path, &[], None).map_err(|source| RecordTypeError::Contract {
            path: path.clone(),
            source: Box::new(source),
        })?;
        Ok(Self {
            contract: Arc::new(contract),
            proto: Some(path),
        })
    }

    /// Whether these are the records of the ingester.
    pub fn is_users(&self) -> bool {
        self.proto.is_none()
    }

    /// The contract.
    pub fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// The default topic.
    pub fn topic(&self) -> String {
        self.contract.default_topic()
    }

    /// The default table.
    pub fn table(&self) -> String {
        self.contract.default_table()
    }

    /// The path of the publisher's API.
    pub fn route(&self) -> String {
        format!("/v1/{}", self.contract.resource())
    }

    /// Configures a publisher or a streamer for these records.
    #[must_use]
    pub fn configure(&self, options: ServiceOptions) -> ServiceOptions {
        match &self.proto {
            Some(path) => options.set("record.proto", path.to_string_lossy()),
            None => options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_record_types() {
        let orders = RecordType::load("orders").unwrap();
        assert_eq!(
            (orders.topic(), orders.table(), orders.route()),
            (
                "orders_created".to_owned(),
                "created_orders".to_owned(),
                "/v1/orders".to_owned()
            )
        );
        assert!(!orders.is_users() && RecordType::load(USERS).unwrap().is_users());
        let unknown = RecordType::load("no-such-record").unwrap_err().to_string();
        assert!(
            unknown.starts_with("no record type no-such-record: /"),
            "{unknown}"
        );
    }
}
