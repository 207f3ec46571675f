//! The process: configuration, metrics, overload, shutdown and the README.

mod configuration;
mod metrics;
mod overload;
mod readme;
mod readme_examples;
mod shutdown;
