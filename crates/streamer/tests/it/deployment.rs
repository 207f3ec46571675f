//! Procedures of the operations manual.

mod backup;
mod configuration;
mod production_config;
mod takeover;
