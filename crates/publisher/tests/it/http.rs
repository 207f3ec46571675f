//! HTTP connections: limits, timeouts, framing and abusive clients.

pub(crate) mod connections;
mod framing;
mod http2;
mod slowloris;
mod timeouts;
