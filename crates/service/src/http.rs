//! HTTP plumbing of the services: the server and its connections, the admin server, its health check client, and access to
//! the other servers.

pub mod activity;
pub mod connection;
pub mod peer;
pub mod server;

pub mod admin;
pub mod auth;
pub mod healthcheck;
pub mod listen_policy;
