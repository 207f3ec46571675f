//! Kafka: records, outages, refusals and fatal errors.

mod fatal_producer;
mod faults;
mod outages;
mod records;
