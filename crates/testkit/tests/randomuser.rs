//! The offline random-user API over HTTP: parameters, faults, record shapes and samples.

#[path = "randomuser/client.rs"]
mod client;
#[path = "randomuser/command.rs"]
mod command;
#[path = "randomuser/content_faults.rs"]
mod content_faults;
#[path = "randomuser/refusals.rs"]
mod refusals;
#[path = "randomuser/rules.rs"]
mod rules;
#[path = "randomuser/samples.rs"]
mod samples;
#[path = "randomuser/shape.rs"]
mod shape;
#[path = "randomuser/speed.rs"]
mod speed;
#[path = "randomuser/transport_faults.rs"]
mod transport_faults;
