//! The parser and encoder of the user before there were contracts, kept to compare with: written by hand for its twelve
//! fields.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "it was a library")]

mod email;
mod encode;
mod field;
mod invalid;
mod parse;
mod reason;
mod text;
mod user;
mod user_id;

pub use invalid::Invalid;
pub use user::User;
