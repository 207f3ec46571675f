//! Authenticates callers by bearer tokens. A file holds each token's SHA-256 and can change while the process runs.
//!
//! Limits no rate and writes no response.

mod role;
mod token_file;

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use crate::config::Violations;
use token_file::TokenFile;

pub use role::{Identity, Role, Roles};
pub use token_file::TokenFileError;

/// The caller's name where no tokens are required.
pub const ANONYMOUS: &str = "anonymous";

/// Who may call. Without a token file any caller may, as [`ANONYMOUS`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthSettings {
    /// A file with a name and the SHA-256 of a bearer token, in hex, on each line. One name may have several tokens. A
    /// third word lists the token's roles, such as `read,write`; without it the token has all.
    pub tokens_path: Option<PathBuf>,
}

impl AuthSettings {
    /// Adds a violation if the token file is missing or does not parse.
    pub fn check_files(&self, violations: &mut Violations) {
        violations.check("auth.tokens_path", Authenticator::load(self));
    }
}

/// Why a request is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The request has no bearer token, or several.
    NoToken,
    /// The token is not in the file.
    WrongToken,
    /// The caller is known and lacks this role.
    MissingRole(Role),
}

/// Finds a caller by its bearer token.
pub struct Authenticator {
    anonymous: Arc<str>,
    file: Option<TokenFile>,
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

    /// Returns the caller that sent a request with these headers.
    ///
    /// # Errors
    /// [`AuthError::NoToken`], [`AuthError::WrongToken`].
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        let Some(file) = &self.file else {
            return Ok(Identity::unrestricted(Arc::clone(&self.anonymous)));
        };
        let token = bearer(headers).ok_or(AuthError::NoToken)?;
        file.find(token).ok_or(AuthError::WrongToken)
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

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};
    use std::path::Path;

    use axum::http::HeaderValue;
    use sha2::{Digest as _, Sha256};
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

    async fn authenticate(authenticator: &Authenticator, authorization: &str) -> Result<String, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(authorization).unwrap());
        let caller = authenticator.authenticate(&headers).await?;
        Ok(caller.name.to_string())
    }

    #[tokio::test]
    async fn any_token_of_a_caller_authenticates_it() {
        let mut file = NamedTempFile::new().unwrap();
        let text = format!(
            "# callers\n\n{}{}{}",
            line("ingester", "old"),
            line("ingester", "new"),
            line("other", "x")
        );
        write(&mut file, &text);
        let authenticator = load(Some(file.path())).unwrap();
        assert_eq!(
            authenticate(&authenticator, "Bearer old").await.unwrap(),
            "ingester"
        );
        assert_eq!(
            authenticate(&authenticator, "bearer new").await.unwrap(),
            "ingester"
        );
        assert_eq!(authenticate(&authenticator, "Bearer x").await.unwrap(), "other");
        assert_eq!(
            authenticate(&authenticator, "Bearer y").await,
            Err(AuthError::WrongToken)
        );
        assert_eq!(
            authenticate(&authenticator, "Basic x").await,
            Err(AuthError::NoToken)
        );
        assert_eq!(
            authenticate(&authenticator, "Bearer ").await,
            Err(AuthError::NoToken)
        );
        assert_eq!(
            authenticator.authenticate(&HeaderMap::new()).await,
            Err(AuthError::NoToken)
        );
        assert_eq!(authenticator.names().len(), 3);
    }

    #[tokio::test]
    async fn token_may_be_restricted_to_roles() {
        let mut file = NamedTempFile::new().unwrap();
        let restricted = line("a", "x").replace('\n', " read,write\n");
        write(&mut file, &(restricted + &line("a", "y")));
        let authenticator = load(Some(file.path())).unwrap();
        for (token, may_erase) in [("Bearer x", false), ("Bearer y", true)] {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_static(token));
            let caller = authenticator.authenticate(&headers).await.unwrap();
            assert_eq!(caller.require(Role::Write), Ok(()));
            assert_eq!(caller.require(Role::Erase).is_ok(), may_erase, "{token}");
        }
    }

    #[tokio::test]
    async fn request_with_two_tokens_is_refused() {
        let mut file = NamedTempFile::new().unwrap();
        write(&mut file, &line("a", "x"));
        let authenticator = load(Some(file.path())).unwrap();
        let mut headers = HeaderMap::new();
        for _ in 0..2 {
            headers.append("authorization", HeaderValue::from_static("Bearer x"));
        }
        assert_eq!(
            authenticator.authenticate(&headers).await,
            Err(AuthError::NoToken)
        );
    }

    #[tokio::test]
    async fn reload_replaces_tokens_unless_the_file_is_broken() {
        let mut file = NamedTempFile::new().unwrap();
        write(&mut file, &line("a", "old"));
        let authenticator = load(Some(file.path())).unwrap();
        assert!(!authenticator.reload().unwrap());
        write(&mut file, &line("a", "new"));
        assert!(authenticator.reload().unwrap());
        assert_eq!(
            authenticate(&authenticator, "Bearer old").await,
            Err(AuthError::WrongToken)
        );
        let signed = format!("a {}", "+f".repeat(32));
        let unknown_role = line("a", "x").replace('\n', " admin");
        for broken in ["", "a", "a xyz", &line("a b", "x"), &signed, &unknown_role] {
            write(&mut file, broken);
            assert!(authenticator.reload().is_err(), "{broken}");
            assert!(authenticate(&authenticator, "Bearer new").await.is_ok());
        }
    }

    #[tokio::test]
    async fn callers_are_anonymous_only_if_no_file_is_configured() {
        let authenticator = load(None).unwrap();
        assert_eq!(
            authenticator.authenticate(&HeaderMap::new()).await,
            Ok(Identity::unrestricted(ANONYMOUS.into()))
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
                "auth.tokens_path: failed to parse {path}:2: expected a name and the SHA-256 of a token in hex, and at most \
                 a list of roles (read, write, erase)"
            )]
        );
        assert!(check("/nowhere")[0].starts_with("auth.tokens_path: failed to read /nowhere: "));
    }
}
