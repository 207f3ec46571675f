//! Environments, servers and clients that the tests share.

pub(crate) mod assignment;
pub(crate) mod commands;
pub(crate) mod orders;
pub(crate) mod secured_cassandra;
pub(crate) mod test_env;
pub(crate) mod traffic;
