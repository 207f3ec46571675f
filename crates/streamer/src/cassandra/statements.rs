//! The prepared statements of a session and their parameters.

use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::query::{PreparedQuery, QueryValues};
use cdrs_tokio::statement::{StatementParams, StatementParamsBuilder};
use cdrs_tokio::types::value::Value;

use crate::cassandra::wire::BatchStatement;

/// Statements prepared on one session.
pub struct PreparedStatements {
    /// Writes a row. Binds the values of [`COLUMNS`](crate::pipeline::row::COLUMNS), the time to live if rows expire, and the
    /// write timestamp.
    pub upsert: BatchStatement,
    /// Deletes a row. Binds the write timestamp and the id.
    pub delete: BatchStatement,
    /// The driver's form of `upsert` and `delete`, for nodes that have not prepared them.
    pub row_statements: [PreparedQuery; 2],
    /// Writes a checkpoint.
    pub save_checkpoint: PreparedQuery,
    /// All rows have the same replicas, so any two may share an unlogged batch.
    pub shared_replica_set: bool,
}

/// Binds positional values. All statements here are idempotent.
pub fn parameters(values: Vec<Value>, consistency: Consistency) -> StatementParams {
    StatementParamsBuilder::new()
        .with_consistency(consistency)
        .with_values(QueryValues::SimpleValues(values))
        .idempotent(true)
        .build()
}
