//! Reads a request: body, compression, framing, metadata and preferences.

pub mod body;
pub mod decompress;
pub mod framing;
pub mod metadata;
pub mod preference;
