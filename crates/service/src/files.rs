//! The files that settings name: certificates and keys, and the reload of what changes.

pub mod pem;
pub mod reload;
