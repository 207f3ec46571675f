//! Authenticates callers by bearer tokens. A file holds each token's SHA-256 and can change while the process runs.
//!
//! Limits no rate and writes no response.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::config::Violations;

/// The caller's name where no tokens are required.
pub const ANONYMOUS: &str = "anonymous";

/// Who may call. Without a token file any caller may, as [`ANONYMOUS`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthSettings {
    /// A file with a name and the SHA-256 of a bearer token, in hex, on each line. One name may have several tokens.
    pub tokens_path: Option<PathBuf>,
}

impl AuthSettings {
    /// Adds a violation if the token file is missing or does not parse.
    pub fn check_files(&self, violations: &mut Violations) {
        violations.check("auth.tokens_path", Authenticator::load(self));
    }
}

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
    /// A line is not a name and a SHA-256.
    #[error("failed to parse {}:{line}: expected a name and the SHA-256 of a token in hex", path.display())]
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

/// Why a caller is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The request has no bearer token, or several.
    NoToken,
    /// The token is not in the file.
    WrongToken,
}

/// Finds the name of a caller by its bearer token.
pub struct Authenticator {
    anonymous: Arc<str>,
    file: Option<TokenFile>,
}

struct TokenFile {
    path: PathBuf,
    current: RwLock<Tokens>,
}

struct Tokens {
    text: String,
    tokens: Vec<Token>,
}

struct Token {
    name: Arc<str>,
    sha256: [u8; 32],
}

impl Authenticator {
    /// Reads the token file, if one is configured.
    ///
    /// # Errors
    /// Each [`TokenFileError`].
    pub fn load(auth: &AuthSettings) -> Result<Self, TokenFileError> {
        let file = auth.tokens_path.as_deref().map(TokenFile::open).transpose()?;
        Ok(Self {
            anonymous: ANONYMOUS.into(),
            file,
        })
    }

    /// Reads the file again and returns whether it changed. After an error the tokens read before stay valid.
    ///
    /// # Errors
    /// Each [`TokenFileError`].
    pub fn reload(&self) -> Result<bool, TokenFileError> {
        self.file.as_ref().map_or(Ok(false), TokenFile::reload)
    }

    /// Returns the name of the caller that sent a request with these headers. Compares every token in constant time.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<str>, AuthError> {
        match &self.file {
            None => Ok(Arc::clone(&self.anonymous)),
            Some(file) => file.authenticate(bearer(headers).ok_or(AuthError::NoToken)?),
        }
    }

    /// Whether callers need a token.
    pub fn requires_token(&self) -> bool {
        self.file.is_some()
    }

    /// The names of all callers, one for each token.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.file
            .as_ref()
            .map_or_else(|| vec![Arc::clone(&self.anonymous)], TokenFile::names)
    }
}

impl TokenFile {
    fn open(path: &Path) -> Result<Self, TokenFileError> {
        Ok(Self {
            path: path.to_owned(),
            current: RwLock::new(read(path)?),
        })
    }

    fn reload(&self) -> Result<bool, TokenFileError> {
        let tokens = read(&self.path)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = tokens.text != current.text;
        if changed {
            *current = tokens;
        }
        Ok(changed)
    }

    fn authenticate(&self, given: &[u8]) -> Result<Arc<str>, AuthError> {
        let sha256: [u8; 32] = Sha256::digest(given).into();
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for token in &current.tokens {
            if bool::from(token.sha256.ct_eq(&sha256)) {
                found = Some(&token.name);
            }
        }
        found.cloned().ok_or(AuthError::WrongToken)
    }

    fn names(&self) -> Vec<Arc<str>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current
            .tokens
            .iter()
            .map(|token| Arc::clone(&token.name))
            .collect()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn read(path: &Path) -> Result<Tokens, TokenFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| TokenFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let tokens = parse(path, &text)?;
    Ok(Tokens { text, tokens })
}

fn parse(path: &Path, text: &str) -> Result<Vec<Token>, TokenFileError> {
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

fn token(line: &str) -> Option<Token> {
    let mut words = line.split_whitespace();
    let (name, hex) = (words.next()?, words.next()?);
    let mut sha256 = [0; 32];
    // `from_str_radix` also accepts a sign.
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

    fn load(path: Option<&Path>) -> Result<Authenticator, TokenFileError> {
        Authenticator::load(&AuthSettings {
            tokens_path: path.map(Path::to_owned),
        })
    }

    fn authenticate(authenticator: &Authenticator, authorization: &str) -> Result<String, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(authorization).unwrap());
        authenticator.authenticate(&headers).map(|name| name.to_string())
    }

    #[test]
    fn any_token_of_a_caller_authenticates_it() {
        let mut file = NamedTempFile::new().unwrap();
        let text = format!(
            "# callers\n\n{}{}{}",
            line("ingester", "old"),
            line("ingester", "new"),
            line("other", "x")
        );
        write(&mut file, &text);
        let authenticator = load(Some(file.path())).unwrap();
        assert_eq!(authenticate(&authenticator, "Bearer old").unwrap(), "ingester");
        assert_eq!(authenticate(&authenticator, "bearer new").unwrap(), "ingester");
        assert_eq!(authenticate(&authenticator, "Bearer x").unwrap(), "other");
        assert_eq!(
            authenticate(&authenticator, "Bearer y"),
            Err(AuthError::WrongToken)
        );
        assert_eq!(authenticate(&authenticator, "Basic x"), Err(AuthError::NoToken));
        assert_eq!(authenticate(&authenticator, "Bearer "), Err(AuthError::NoToken));
        assert_eq!(
            authenticator.authenticate(&HeaderMap::new()),
            Err(AuthError::NoToken)
        );
        assert_eq!(authenticator.names().len(), 3);
    }

    #[test]
    fn request_with_two_tokens_is_refused() {
        let mut file = NamedTempFile::new().unwrap();
        write(&mut file, &line("a", "x"));
        let authenticator = load(Some(file.path())).unwrap();
        let mut headers = HeaderMap::new();
        for _ in 0..2 {
            headers.append("authorization", HeaderValue::from_static("Bearer x"));
        }
        assert_eq!(authenticator.authenticate(&headers), Err(AuthError::NoToken));
    }

    #[test]
    fn reload_replaces_tokens_unless_the_file_is_broken() {
        let mut file = NamedTempFile::new().unwrap();
        write(&mut file, &line("a", "old"));
        let authenticator = load(Some(file.path())).unwrap();
        assert!(!authenticator.reload().unwrap());
        write(&mut file, &line("a", "new"));
        assert!(authenticator.reload().unwrap());
        assert_eq!(
            authenticate(&authenticator, "Bearer old"),
            Err(AuthError::WrongToken)
        );
        let signed = format!("a {}", "+f".repeat(32));
        for broken in ["", "a", "a xyz", &line("a b", "x"), &signed] {
            write(&mut file, broken);
            assert!(authenticator.reload().is_err(), "{broken}");
            assert!(authenticate(&authenticator, "Bearer new").is_ok());
        }
    }

    #[test]
    fn callers_are_anonymous_only_if_no_file_is_configured() {
        let authenticator = load(None).unwrap();
        assert_eq!(
            authenticator.authenticate(&HeaderMap::new()).as_deref(),
            Ok(ANONYMOUS)
        );
        assert!(!authenticator.reload().unwrap());
        assert!(matches!(
            load(Some(Path::new("/nowhere"))),
            Err(TokenFileError::Read { .. })
        ));
    }

    #[test]
    fn check_files_reports_an_unusable_token_file() {
        let check = |path: &str| {
            let mut violations = Violations::default();
            let settings = AuthSettings {
                tokens_path: Some(path.into()),
            };
            settings.check_files(&mut violations);
            violations.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let mut file = NamedTempFile::new().unwrap();
        write(&mut file, &line("a", "x"));
        let path = file.path().to_str().unwrap().to_owned();
        assert!(check(&path).is_empty());
        write(&mut file, "# no token\na b\n");
        assert_eq!(
            check(&path),
            [format!(
                "auth.tokens_path: failed to parse {path}:2: expected a name and the SHA-256 of a token in hex"
            )]
        );
        assert!(check("/nowhere")[0].starts_with("auth.tokens_path: failed to read /nowhere: "));
    }
}
