//! Procedures of the operations manual.

mod backup;
mod production_config;
mod takeover;
