//! The Cassandra side: rows in, acknowledgements out.
//!
//! The driver has no request timeout, hides connection errors, and reuses stream ids after wrap-around. So only its
//! connections are used. Every call goes through a [`session`] with one node, which applies a timeout, limits the stream ids in
//! use ([`stream_id_limiter`](connection::stream_id_limiter)) and is replaced as a whole after a reply that can't be trusted.

pub mod error_class;
pub mod wire;

pub mod connection;
pub mod prepare;
pub mod session;
pub mod statements;

pub mod cluster;
pub mod placement;
pub mod readiness;
pub mod session_pool;
pub mod topology;

pub mod schema;
pub mod writer;
