//! Connections to nodes: transport, handshake probe, the driver's connector and its stream ids.

pub mod connector;
mod error_frames;
pub mod probe;
pub mod stream_id_limiter;
pub mod transport;
