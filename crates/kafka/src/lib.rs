//! What the Kafka clients of publisher and streamer share, so that both connect, create and check topics by one rule.
//!
//! It knows no settings of a service: brokers, properties and topics come in as plain values.

pub mod client;

pub mod error;
pub mod events;
pub mod rebootstrap;

pub mod fetch_queue;
pub mod headers;
pub mod leader_epoch;
pub mod watermarks;

pub mod admin_request;
pub mod metadata;
pub mod topic;

pub use client::Connection;
pub use client::check::PlannedClient;
pub use error::{ClientRejected, is_rejected, is_rejection};
pub use events::{ClientEvents, ProducerEvents};
pub use metadata::group::{Group, GroupMember};
pub use metadata::{MetadataClient, TopicInfo, Watermarks};
pub use rebootstrap::RebootstrapMonitor;
pub use topic::retention::TopicRetention;
pub use topic::topic_id::same_topic;
pub use topic::{TopicConfig, TopicError, TopicSpec};
