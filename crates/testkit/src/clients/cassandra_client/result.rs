//! The rows of a query as bytes, with the types of the table's columns.

use std::collections::BTreeMap;

use cdrs_tokio::frame::message_response::ResponseBody;
use cdrs_tokio::frame::message_result::{ColType, ColTypeOption, ColTypeOptionValue, ResResultBody};
use cdrs_tokio::types::CBytes;
use model::{CqlType, Instant};

use crate::rows::{Row, text};

/// A column of a result.
#[derive(Debug)]
pub(super) struct Column {
    name: String,
    kind: CqlType,
}

/// All pages of a query.
#[derive(Debug, Default)]
pub(super) struct QueryResult {
    pub(super) columns: Vec<Column>,
    /// The bytes of each column; `None` if it is null.
    pub(super) rows: Vec<Vec<Option<Vec<u8>>>>,
}

impl QueryResult {
    /// Adds a page, and returns the state that the next page needs.
    pub(super) fn add(&mut self, body: ResponseBody) -> Option<CBytes> {
        let ResponseBody::Result(ResResultBody::Rows(page)) = body else {
            return None;
        };
        let columns = page.metadata.col_specs.into_iter().map(|column| Column {
            kind: kind(&column.col_type),
            name: column.name,
        });
        self.columns = columns.collect();
        let rows = page.rows_content.into_iter();
        self.rows
            .extend(rows.map(|row| row.into_iter().map(CBytes::into_bytes).collect()));
        page.metadata.paging_state
    }
}

/// The type of a column. Types that no contract has are shown as bytes.
fn kind(column: &ColTypeOption) -> CqlType {
    match (&column.id, &column.value) {
        (ColType::Varchar | ColType::Ascii, _) => CqlType::Text,
        (ColType::Uuid, _) => CqlType::Uuid,
        (ColType::Boolean, _) => CqlType::Boolean,
        (ColType::Int, _) => CqlType::Int,
        (ColType::Bigint, _) => CqlType::Bigint,
        (ColType::Float, _) => CqlType::Float,
        (ColType::Double, _) => CqlType::Double,
        (ColType::Timestamp, _) => CqlType::Timestamp,
        (ColType::List, Some(ColTypeOptionValue::CList(element))) => CqlType::List(Box::new(kind(element))),
        (ColType::Map, Some(ColTypeOptionValue::CMap(_, value))) => CqlType::Map(Box::new(kind(value))),
        _ => CqlType::Blob,
    }
}

/// The columns of a row that are not null, by name.
pub(super) fn named(columns: &[Column], row: Vec<Option<Vec<u8>>>) -> Row {
    let cells = columns.iter().zip(row);
    cells
        .filter_map(|(column, bytes)| Some((column.name.clone(), bytes?)))
        .collect()
}

/// The columns of a row that are not null as texts, instants in milliseconds since 1970.
pub(super) fn texts(columns: &[Column], row: Vec<Option<Vec<u8>>>) -> BTreeMap<String, String> {
    let cells = columns.iter().zip(row).filter_map(|(column, bytes)| {
        let text = text(&column.kind, &bytes?);
        let millis = (column.kind == CqlType::Timestamp)
            .then(|| text.parse::<Instant>().ok())
            .flatten()
            .map(|instant| instant.as_millis().to_string());
        Some((column.name.clone(), millis.unwrap_or(text)))
    });
    cells.collect()
}
