//! The token file: a name and the SHA-256 of a bearer token on each line, and optionally the roles of that token.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::identity::Identity;
use super::role::Roles;

/// The token file is not usable.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// Reading it failed.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// A line is not a name, a SHA-256 and roles.
    #[error(
        "failed to parse {}:{line}: expected a name and the SHA-256 of a token in hex, and at most a list of roles \
         (read, write, erase)",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// It has no token, so every call would be refused.
    #[error("{} has no token", .0.display())]
    Empty(PathBuf),
}

/// The tokens of a file, which can change while the process runs.
pub(super) struct TokenFile {
    path: PathBuf,
    current: RwLock<Tokens>,
}

struct Tokens {
    text: String,
    tokens: Vec<FileToken>,
}

struct FileToken {
    identity: Identity,
    sha256: [u8; 32],
}

impl TokenFile {
    pub(super) fn open(path: &Path) -> Result<Self, TokenFileError> {
        Ok(Self {
            path: path.to_owned(),
            current: RwLock::new(read(path)?),
        })
    }

    /// Returns whether the file has changed. After an error the tokens read before stay valid.
    pub(super) fn reload(&self) -> Result<bool, TokenFileError> {
        let tokens = read(&self.path)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = tokens.text != current.text;
        if changed {
            *current = tokens;
        }
        Ok(changed)
    }

    /// The caller with this token. Compares every token in constant time.
    pub(super) fn find(&self, given: &[u8]) -> Option<Identity> {
        let sha256: [u8; 32] = Sha256::digest(given).into();
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for token in &current.tokens {
            if bool::from(token.sha256.ct_eq(&sha256)) {
                found = Some(&token.identity);
            }
        }
        found.cloned()
    }
}

fn read(path: &Path) -> Result<Tokens, TokenFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| TokenFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let tokens = parse(path, &text)?;
    Ok(Tokens { text, tokens })
}

fn parse(path: &Path, text: &str) -> Result<Vec<FileToken>, TokenFileError> {
    let mut tokens = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = token(line).ok_or_else(|| TokenFileError::Line {
            path: path.to_owned(),
            line: number,
        })?;
        tokens.push(token);
    }
    if tokens.is_empty() {
        return Err(TokenFileError::Empty(path.to_owned()));
    }
    Ok(tokens)
}

fn token(line: &str) -> Option<FileToken> {
    let mut words = line.split_whitespace();
    let (name, hex) = (words.next()?, words.next()?);
    let roles = words.next().map_or(Some(Roles::ALL), Roles::parse)?;
    let mut sha256 = [0; 32];
    // `from_str_radix` also accepts a sign.
    if words.next().is_some() || hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in sha256.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let name = name.into();
    Some(FileToken {
        identity: Identity { name, roles },
        sha256,
    })
}
