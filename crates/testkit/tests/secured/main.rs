//! The services on secured servers: TLS, logins, and the rights that the operations manual lists.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod account;
mod env;
mod login;
mod mechanisms;
mod rights;
mod rotation;
mod story;
