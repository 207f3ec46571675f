//! The types of the record's fields. Each value is valid by construction.

mod email;
mod instant;
mod reason;
mod text;
mod user_id;

pub use email::Email;
pub use instant::Instant;
pub use reason::{JsonKind, Reason};
pub use text::Text;
pub use user_id::{UserId, UserIdText};
