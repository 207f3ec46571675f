//! The operator's commands.

mod commands;
mod redrive;
mod verify;
