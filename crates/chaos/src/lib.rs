//! Fault campaign: injects faults into the whole pipeline and checks its delivery guarantees.
//!
//! A round runs a [`scenario`] against a warm [`cluster`] of servers behind proxies. It starts the [`services`] on a new
//! topic, keyspace and consumer group. The [`workload`] posts users and records what the publisher acknowledged, while
//! [`faults`] are injected and [`observe`] samples health and checkpoints. After the last fault, the collected
//! [`evidence`] is checked by the [`invariants`], a pure core, and the violations go into the [`report`].
//!
//! The oracle is never disturbed: it reads Kafka through the internal listener and Cassandra without the proxy. It shares
//! the model crate with the services, and no other code.
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the map above names private modules"
)]

mod scenario;

mod cluster;
mod service_id;
mod services;
mod workload;

mod faults;
mod observe;

mod evidence;
mod invariants;

mod report;

mod campaign;
pub mod cli;

pub use campaign::{Campaign, Selection, commit};
pub use cluster::shape::ClusterShape;
pub use invariants::InvariantViolation;

/// The names that only builds with the feature `failpoint` know: mutations, crash points and environment variables.
#[must_use]
pub fn failpoint_names() -> Vec<&'static str> {
    let mutations = campaign::MUTATIONS.iter().map(|mutation| mutation.name);
    mutations.chain(services::failpoint::names()).collect()
}
