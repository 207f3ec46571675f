//! HTTP plumbing of the services: the admin server, its health check client, and access to the other servers.

pub mod admin;
pub mod auth;
pub mod healthcheck;
pub mod listen_policy;
