//! The HTTP server's TLS and its error responses. `service` serves the connections.

pub mod problem;
pub mod tls;
