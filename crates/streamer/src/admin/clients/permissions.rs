//! What the role of the commands may read.

use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::SchemaError;
use crate::cassandra::session::Session;
use crate::config::CassandraSettings;

/// Whether `role` reads the values of masked columns: it is a superuser, or has UNMASK on the table, its keyspace or all
/// keyspaces, itself or by a role that was granted to it. A role may always list its own permissions.
///
/// # Errors
/// [`SchemaError::Failed`].
pub(super) async fn may_unmask(
    session: &Session,
    settings: &CassandraSettings,
    role: &str,
) -> Result<bool, SchemaError> {
    let role = role.replace('\'', "''");
    let failed = |error| SchemaError::Failed {
        operation: "list the permissions of cassandra.username",
        error,
    };
    let roles = format!("LIST ROLES OF '{role}'");
    let roles = session.query(&roles, Vec::new()).await.map_err(failed)?;
    let is_super = |row: &Row| row.by_name::<bool>("super").ok().flatten() == Some(true);
    if roles.iter().any(is_super) {
        return Ok(true);
    }
    let table = settings.qualified_table();
    let list = format!("LIST UNMASK PERMISSION ON TABLE {table} OF '{role}'");
    match session.query(&list, Vec::new()).await {
        Ok(permissions) => Ok(!permissions.is_empty()),
        // A cluster without an authorizer has no permissions and masks nothing.
        Err(ErrorClass::Invalid(_)) => Ok(true),
        Err(error) => Err(failed(error)),
    }
}
