//! Consumer groups, and failures of Kafka.

mod advertised_address;
mod authorization;
mod auto_creation;
mod backlog;
mod broker_outages;
mod group;
mod outage_log;
mod rebalance;
mod rolling_update;
mod second_member;
mod stall_detection;
mod static_members;
mod truncated_log;
