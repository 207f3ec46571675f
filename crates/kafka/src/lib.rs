//! What the Kafka clients of publisher and streamer share, so that both connect, create and check topics by one rule.
//!
//! It knows no settings of a service: brokers, properties and topics come in as plain values.

pub mod client;
pub mod property;

pub mod error;

pub mod metadata;
pub mod topic;
pub mod topic_id;

pub mod rebootstrap;

pub use client::Connection;
pub use error::{ClientRejected, is_rejected, is_rejection};
pub use metadata::{MetadataClient, TopicInfo};
pub use rebootstrap::RebootstrapMonitor;
pub use topic::{TopicConfig, TopicError, TopicSpec};
