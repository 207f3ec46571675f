//! The offline random-user API over HTTP: parameters, faults, record shapes and samples.

mod client;
mod command;
mod content_faults;
mod refusals;
mod rules;
mod samples;
mod shape;
mod speed;
mod transport_faults;
