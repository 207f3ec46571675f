//! Delivery to the publisher: its responses, its outages, and kills of the ingester.

mod kill_recovery;
mod outages;
mod publisher_responses;
mod real_publisher;
mod rejected_records;
