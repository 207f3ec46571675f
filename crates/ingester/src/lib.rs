#![doc = include_str!("../README.md")]

// What the operator wants.
pub mod endpoint;
pub mod settings;

// When a run starts, which pages it asks for, and how fast it may.
pub mod cron;

pub mod schedule;

pub mod plan;

pub mod budget;

pub mod breaker;

// A page comes in,
pub mod source;

pub mod fetch;
pub mod http;

// is read and verified,
pub mod randomuser;
pub mod scalar;

pub mod format;

// becomes records,
pub mod page;
pub mod records;

// is kept until it is delivered,
pub mod history;
pub mod memory;

pub mod accounted;
pub mod ledger;
pub mod room;

// and goes out in batches until each is accounted for.
pub mod duplicates;

pub mod batch;
pub mod cut;

pub mod outbox;
pub mod window;

pub mod delivery;
pub mod pause;

pub mod compression;
pub mod post;

pub mod answer;

// What is said of it.
pub mod metrics;
pub mod tally;

pub mod report;

pub mod current;
pub mod desk;

pub mod pulse;
pub mod reach;

// The wiring.
pub mod delivering;
pub mod fetching;
pub mod run;
pub mod scheduler;

pub mod api;

pub mod ended;

pub mod books;
pub mod progress;

pub mod command;

pub use crate::cli::{Cli, perform};
pub use crate::run::exit_error::ExitError;
pub use crate::run::pipeline::Pipeline;
