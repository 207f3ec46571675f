//! Certificates, and a server that issues access tokens.

pub mod certificates;
pub mod token_key;
pub mod token_server;
