//! Health probes for topic and table, and stall detection.

pub mod lazy_dependency;
pub mod probes;
pub mod stall_detector;
