//! Callers by their bearer tokens, which are kept as SHA-256 in a file that can change while the process runs. It
//! keeps no token, and never says which part of a wrong one was right.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::AuthSettings;

/// The name of everybody where no tokens are needed.
pub const ANONYMOUS: &str = "anonymous";

/// The token file can't be used.
#[derive(Debug, Error)]
pub enum CallersError {
    /// It can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A line is not a name and a SHA-256.
    #[error("{} line {line} is not a name and the SHA-256 of a token in hex", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// It holds no token, so that nobody could call.
    #[error("{} holds no token", .0.display())]
    Empty(PathBuf),
}

/// Why somebody may not call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// Without a token.
    NoToken,
    /// With a token that is none of ours.
    WrongToken,
}

/// Everybody who may call.
pub struct Callers {
    anonymous: Arc<str>,
    file: Option<TokenFile>,
}

struct TokenFile {
    path: PathBuf,
    read: RwLock<Read>,
}

struct Read {
    text: String,
    tokens: Vec<Token>,
}

struct Token {
    name: Arc<str>,
    sha256: [u8; 32],
}

impl Callers {
    /// Reads the token file, if one is configured; without one, everybody may call.
    ///
    /// # Errors
    /// Each [`CallersError`].
    pub fn load(auth: &AuthSettings) -> Result<Self, CallersError> {
        let file = auth.tokens_path.as_deref().map(TokenFile::open).transpose()?;
        Ok(Self {
            anonymous: ANONYMOUS.into(),
            file,
        })
    }

    /// Reads the file again; says whether it has changed. On an error, who could call before still can.
    ///
    /// # Errors
    /// Each [`CallersError`].
    pub fn reload(&self) -> Result<bool, CallersError> {
        self.file.as_ref().map_or(Ok(false), TokenFile::reload)
    }

    /// The name of who sends a request with these headers. Every token is compared, and in constant time.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<str>, AuthError> {
        match &self.file {
            None => Ok(Arc::clone(&self.anonymous)),
            Some(file) => file.authenticate(bearer(headers).ok_or(AuthError::NoToken)?),
        }
    }

    /// The names of all who may call, some of them several times.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.file
            .as_ref()
            .map_or_else(|| vec![Arc::clone(&self.anonymous)], TokenFile::names)
    }
}

impl TokenFile {
    fn open(path: &Path) -> Result<Self, CallersError> {
        Ok(Self {
            path: path.to_owned(),
            read: RwLock::new(read(path)?),
        })
    }

    fn reload(&self) -> Result<bool, CallersError> {
        let now = read(&self.path)?;
        let mut before = self.read.write().unwrap_or_else(PoisonError::into_inner);
        let changed = now.text != before.text;
        if changed {
            *before = now;
        }
        Ok(changed)
    }

    fn authenticate(&self, given: &[u8]) -> Result<Arc<str>, AuthError> {
        let sha256: [u8; 32] = Sha256::digest(given).into();
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for token in &read.tokens {
            if bool::from(token.sha256.ct_eq(&sha256)) {
                found = Some(&token.name);
            }
        }
        found.cloned().ok_or(AuthError::WrongToken)
    }

    fn names(&self) -> Vec<Arc<str>> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        read.tokens.iter().map(|token| Arc::clone(&token.name)).collect()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn read(path: &Path) -> Result<Read, CallersError> {
    let text = std::fs::read_to_string(path).map_err(|source| CallersError::Read {
        path: path.to_owned(),
        source,
    })?;
    let tokens = parse(path, &text)?;
    Ok(Read { text, tokens })
}

fn parse(path: &Path, text: &str) -> Result<Vec<Token>, CallersError> {
    let mut tokens = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = token(line).ok_or_else(|| CallersError::Line {
            path: path.to_owned(),
            line: number,
        })?;
        tokens.push(token);
    }
    if tokens.is_empty() {
        return Err(CallersError::Empty(path.to_owned()));
    }
    Ok(tokens)
}

fn token(line: &str) -> Option<Token> {
    let mut words = line.split_whitespace();
    let (name, hex) = (words.next()?, words.next()?);
    let mut sha256 = [0; 32];
    // A digit's parser would take a sign, too.
    if words.next().is_some() || hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in sha256.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Token {
        name: name.into(),
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use axum::http::HeaderValue;
    use tempfile::NamedTempFile;

    use super::*;

    fn line(name: &str, token: &str) -> String {
        let hex: String = Sha256::digest(token)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{name} {hex}\n")
    }

    fn write(file: &mut NamedTempFile, text: &str) {
        file.as_file().set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn load(path: Option<&Path>) -> Result<Callers, CallersError> {
        Callers::load(&AuthSettings {
            tokens_path: path.map(Path::to_owned),
        })
    }

    fn who(callers: &Callers, authorization: &str) -> Result<String, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(authorization).unwrap());
        callers.authenticate(&headers).map(|name| name.to_string())
    }

    #[test]
    fn a_caller_is_known_by_any_token_of_its_name() {
        let mut file = NamedTempFile::new().unwrap();
        let text = format!(
            "# who calls\n\n{}{}{}",
            line("ingester", "old"),
            line("ingester", "new"),
            line("other", "x")
        );
        write(&mut file, &text);
        let callers = load(Some(file.path())).unwrap();
        assert_eq!(who(&callers, "Bearer old").unwrap(), "ingester");
        assert_eq!(who(&callers, "bearer new").unwrap(), "ingester");
        assert_eq!(who(&callers, "Bearer x").unwrap(), "other");
        assert_eq!(who(&callers, "Bearer y"), Err(AuthError::WrongToken));
        assert_eq!(who(&callers, "Basic x"), Err(AuthError::NoToken));
        assert_eq!(who(&callers, "Bearer "), Err(AuthError::NoToken));
        assert_eq!(callers.authenticate(&HeaderMap::new()), Err(AuthError::NoToken));
        assert_eq!(callers.names().len(), 3);
    }

    #[test]
    fn a_request_with_two_tokens_is_nobodys() {
        let mut file = NamedTempFile::new().unwrap();
        write(&mut file, &line("a", "x"));
        let callers = load(Some(file.path())).unwrap();
        let mut headers = HeaderMap::new();
        for _ in 0..2 {
            headers.append("authorization", HeaderValue::from_static("Bearer x"));
        }
        assert_eq!(callers.authenticate(&headers), Err(AuthError::NoToken));
    }

    #[test]
    fn tokens_rotate_and_a_broken_file_changes_nothing() {
        let mut file = NamedTempFile::new().unwrap();
        write(&mut file, &line("a", "old"));
        let callers = load(Some(file.path())).unwrap();
        assert!(!callers.reload().unwrap());
        write(&mut file, &line("a", "new"));
        assert!(callers.reload().unwrap());
        assert_eq!(who(&callers, "Bearer old"), Err(AuthError::WrongToken));
        let signed = format!("a {}", "+f".repeat(32));
        for broken in ["", "a", "a xyz", &line("a b", "x"), &signed] {
            write(&mut file, broken);
            assert!(callers.reload().is_err(), "{broken}");
            assert!(who(&callers, "Bearer new").is_ok());
        }
    }

    #[test]
    fn without_a_file_everybody_is_anonymous_and_with_a_lost_one_nothing_starts() {
        let callers = load(None).unwrap();
        assert_eq!(callers.authenticate(&HeaderMap::new()).as_deref(), Ok(ANONYMOUS));
        assert!(!callers.reload().unwrap());
        assert!(matches!(
            load(Some(Path::new("/nowhere"))),
            Err(CallersError::Read { .. })
        ));
    }
}
