//! Consumer groups, and failures of Kafka.

mod advertised_address;
mod authorization;
mod auto_creation;
mod backlog;
mod broker_outages;
mod follower_fetch;
mod group;
mod outage_log;
mod rebalance;
mod rolling_update;
mod second_member;
mod stall_detection;
mod static_members;
mod topic_ids;
mod truncated_log;
