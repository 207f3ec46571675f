//! The testkit's own servers and clients, and the whole product on real servers: the chain and its outages, the demo, traces,
//! erasure, secured servers, and the surroundings of a process.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod chain;
mod demo;
mod erasure;
mod help;
mod pool;
mod proxy;
mod randomuser;
mod secured;
mod servers;
mod surroundings;
mod traces;
