//! Records of other contracts than the user's.

mod contracts;
mod keys;
mod orders;
