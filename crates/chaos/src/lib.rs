//! The fault campaign: whatever is killed, cut or broken, what was acknowledged is in the table exactly once, or in the
//! dead-letter topic.
//!
//! A round goes through these modules from top to bottom. A `venue` (servers behind proxies) is warm; a `crew` of
//! services starts on a fresh topic, keyspace and group; a `workload` posts users minted for the round and notes an
//! obligation only where an acknowledgement came; a `schedule`, made from a seed or named by a `scenario`, disturbs
//! them through `inject`, while `watch` looks at everything. Then all is left alone to settle, the servers are read,
//! and the [`laws`], a pure core, turn the [`evidence`] into violations. `report` and `page` tell of it.
//!
//! Nothing here is ever faulted itself: the oracle reads Kafka through the listener between brokers, and Cassandra
//! past the proxy. It judges with the model crate and its own words, and shares no code with the services it judges.

pub mod campaign;
pub mod chronicle;
pub mod cli;
pub mod clock;
pub mod crew;
pub mod disk;
pub mod dump;
pub mod evidence;
pub mod fault;
pub mod inject;
pub mod laws;
pub mod moment;
pub mod page;
pub mod pause;
pub mod prove;
pub mod report;
pub mod round;
pub mod scenario;
pub mod schedule;
pub mod venue;
pub mod watch;
pub mod workload;

pub use campaign::{Campaign, CampaignError, Pick};
pub use round::RoundError;
