//! Records that can't be rows: how they are written and read, and how many of them halt a partition.

pub mod dead_letter;
pub mod log;
pub mod producer;
pub mod recent;
pub mod retention;

pub mod halted_partitions;
pub mod limits;
pub mod stats;
