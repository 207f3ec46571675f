//! Records and rows: random ones, their contracts, and the comparison of a topic with its table.

pub mod comparison;
pub mod generator;
pub mod people;
pub mod record_type;
pub mod rows;
