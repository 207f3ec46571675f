//! The prepared statements of a session and their parameters.

use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::query::{PreparedQuery, QueryValues};
use cdrs_tokio::statement::{StatementParams, StatementParamsBuilder};
use cdrs_tokio::types::CBytes;
use cdrs_tokio::types::value::Value;
use model::Contract;

use crate::cassandra::wire::BatchStatement;

/// Statements prepared on one session.
pub struct PreparedStatements {
    /// Writes a row. Binds the values of a [`Row`](crate::pipeline::row::Row), the time to live if rows expire, and the write
    /// timestamp.
    pub upsert: BatchStatement,
    /// Deletes a row. Binds the write timestamp and the primary key.
    pub delete_row: BatchStatement,
    /// Deletes all rows of a key. Binds the write timestamp and the key.
    pub delete_partition: BatchStatement,
    /// The driver's form of these, for nodes that have not prepared them.
    pub row_statements: [PreparedQuery; 3],
    /// Writes a checkpoint.
    pub save_checkpoint: PreparedQuery,
}

/// The statements of the run ledger, prepared on one session. Rows and checkpoints do not need its table.
pub struct LedgerStatements {
    /// Writes a segment.
    pub save_segment: BatchStatement,
    /// Adds a chunk of a run above 0 to the list of them.
    pub add_chunk: BatchStatement,
    /// The driver's form of these, for nodes that have not prepared them.
    pub prepared: [PreparedQuery; 2],
}

/// Binds positional values. All statements here are idempotent.
pub fn parameters(values: Vec<Value>, consistency: Consistency) -> StatementParams {
    StatementParamsBuilder::new()
        .with_consistency(consistency)
        .with_values(QueryValues::SimpleValues(values))
        .idempotent(true)
        .build()
}

/// The column of a field as CQL has it. Names keep their case, and may be reserved words.
pub fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// The conditions of a statement whose values are the columns of these slots.
pub fn conditions(contract: &Contract, slots: &[usize]) -> String {
    let conditions = slots
        .iter()
        .map(|slot| format!("{} = ?", quoted(contract.fields()[*slot].name())));
    conditions.collect::<Vec<_>>().join(" AND ")
}

/// Binds positional values of a query whose rows come in pages, after the page that returned `paging_state`.
pub fn page(values: Vec<Value>, consistency: Consistency, paging_state: Option<CBytes>) -> StatementParams {
    const PAGE_SIZE: i32 = 500;
    let mut parameters = parameters(values, consistency);
    parameters.query_params.page_size = Some(PAGE_SIZE);
    parameters.query_params.paging_state = paging_state;
    parameters
}
