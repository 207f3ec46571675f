//! Unifies the features of dependencies over the workspace; see `Cargo.toml`.
