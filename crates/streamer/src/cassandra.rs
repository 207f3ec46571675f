//! Everything that speaks to Cassandra, behind seams that know no driver: rows in, acknowledgements out.
//!
//! The driver has no deadline of its own, hides why it can't connect, and hands the reply of a late request to another
//! one once its stream ids wrap. So every call goes through [`session`], which gives it a deadline, bounds what
//! is started (see [`gate`]) and throws the whole session away after any doubt.

pub mod agreement;
pub mod checkpoints;
pub mod connector;
pub mod fault;
pub mod gate;
pub mod line;
pub mod pace;
pub mod placement;
pub mod probe;
pub mod schema;
pub mod session;
pub mod sessions;
pub mod statements;
pub mod window;
pub mod wire;
pub mod writer;
