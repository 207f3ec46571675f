//! Compiles `.proto` files, good and bad, and compares the contract with what the file says.

mod refused;
mod user;
