//! What the Kafka clients of publisher and streamer share, so that both connect, create and check topics by one rule.
//!
//! It knows no settings of a service: brokers, properties and topics come in as plain values.

pub mod check;
pub mod client;
pub mod login;
pub mod oauth;
pub mod property;

pub mod error;
pub mod events;
pub mod fetch_queue;
pub mod headers;
pub mod leader_epoch;

pub mod admin_request;
mod alter_topic;
pub mod group;
pub mod leaders;
pub mod list_offsets;
pub mod metadata;
mod producer_events;
pub mod retention;
pub mod topic;
pub mod topic_id;
pub mod watermarks;

pub mod rebootstrap;

pub use check::PlannedClient;
pub use client::Connection;
pub use error::{ClientRejected, is_rejected, is_rejection};
pub use events::ClientEvents;
pub use group::{Group, GroupMember};
pub use metadata::{MetadataClient, TopicInfo, Watermarks};
pub use producer_events::ProducerEvents;
pub use rebootstrap::RebootstrapMonitor;
pub use retention::TopicRetention;
pub use topic::{TopicConfig, TopicError, TopicSpec};
pub use topic_id::same_topic;
