//! The services on secured servers: TLS, logins, and the rights that the operations manual lists.

mod account;
mod env;
mod load;
mod login;
mod mechanisms;
mod rights;
mod rotation;
mod story;
