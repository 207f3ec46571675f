//! The operator's commands.

mod commands;
mod dead_letters;
mod redrive;
mod verify;
