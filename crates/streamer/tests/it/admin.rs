//! The operator's commands.

mod commands;
mod dead_letters;
mod erasure;
mod redrive;
mod trace;
mod verify;
