//! The HTTP server: connections, TLS, timeouts and error responses.

pub mod connection;
pub mod problem;
pub mod server;
mod timeouts;
pub mod tls;
