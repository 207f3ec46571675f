//! The file of the tokens that a service accepts.

use std::path::Path;

use sha2::{Digest as _, Sha256};

pub(crate) const TOKEN: &str = "a-token-of-ours";

/// Writes a token file that authorizes `token`.
pub(crate) fn tokens_file(folder: &Path, token: &str) -> String {
    let path = folder.join("tokens");
    let sha256: String = Sha256::digest(token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    std::fs::write(&path, format!("client {sha256}\n")).unwrap();
    path.display().to_string()
}
