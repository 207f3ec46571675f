//! Authenticates callers by bearer tokens: those of a file, which holds each token's SHA-256, and JSON Web Tokens. File and
//! keys can change while the process runs.
//!
//! Limits no rate and writes no response.

mod error;
mod file_error;
mod identity;
mod jwt;
mod role;
mod token_file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config::Violations;
use crate::files::reload;
use crate::health::Health;
use jwt::JwtVerifier;
use token_file::TokenFile;

pub use error::AuthError;
pub use file_error::AuthFileError;
pub use identity::Identity;
pub use jwt::{JwtError, JwtSettings, KeyFileError, KeySetError};
pub use role::{Role, Roles};
pub use token_file::TokenFileError;

/// The caller's name where no tokens are required.
pub const ANONYMOUS: &str = "anonymous";

/// Who may call. Without a token file and JWTs any caller may, as [`ANONYMOUS`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthSettings {
    /// A file with a name and the SHA-256 of a bearer token, in hex, on each line. One name may have several tokens. A
    /// third word lists the token's roles, such as `read,write`; without it the token has all.
    pub tokens_path: Option<PathBuf>,
    /// JSON Web Tokens, which are accepted in addition to the tokens of the file.
    pub jwt: JwtSettings,
}

impl AuthSettings {
    /// Whether callers need a token.
    pub fn requires_token(&self) -> bool {
        self.tokens_path.is_some() || self.jwt.is_enabled()
    }

    /// Adds each rule that the settings break.
    pub fn validate(&self, violations: &mut Violations) {
        self.jwt.validate(violations);
    }

    /// Adds a violation for each file that is missing or does not parse.
    pub fn check_files(&self, violations: &mut Violations) {
        if let Some(path) = &self.tokens_path {
            violations.check("auth.tokens_path", TokenFile::open(path));
        }
        self.jwt.check_files(violations);
    }
}

/// Finds a caller by its bearer token.
pub struct Authenticator {
    anonymous: Arc<str>,
    file: Option<TokenFile>,
    jwt: Option<JwtVerifier>,
}

impl Authenticator {
    /// Reads the files, if some are configured.
    ///
    /// # Errors
    /// Each [`AuthFileError`].
    pub fn load(auth: &AuthSettings) -> Result<Self, AuthFileError> {
        let file = auth.tokens_path.as_deref().map(TokenFile::open).transpose()?;
        Ok(Self {
            anonymous: ANONYMOUS.into(),
            file,
            jwt: JwtVerifier::load(&auth.jwt)?,
        })
    }

    /// Keeps tokens and keys up to date until `stop`: checks the files every `interval`, and fetches the issuer's keys. If
    /// there is no token file, the process is not ready before it has keys.
    pub async fn watch(self: Arc<Self>, interval: Duration, health: &Health, stop: CancellationToken) {
        let authenticator = Arc::clone(&self);
        let files = reload::watch("tokens", interval, stop.clone(), move || authenticator.reload());
        let keys = async {
            if let Some(jwt) = &self.jwt {
                jwt.refresh(health, self.file.is_none(), stop).await;
            }
        };
        tokio::join!(files, keys);
    }

    /// Reads the files again and returns whether one has changed. After an error what was read before stays valid.
    fn reload(&self) -> Result<bool, AuthFileError> {
        let tokens = self.file.as_ref().map_or(Ok(false), TokenFile::reload);
        let keys = self.jwt.as_ref().map_or(Ok(false), JwtVerifier::reload);
        Ok(tokens? | keys?)
    }

    /// Returns the caller that sent a request with these headers.
    ///
    /// # Errors
    /// Each [`AuthError`] but [`AuthError::MissingRole`].
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        if !self.requires_token() {
            return Ok(Identity::unrestricted(Arc::clone(&self.anonymous)));
        }
        let token = bearer(headers).ok_or(AuthError::NoToken)?;
        if let Some(identity) = self.file.as_ref().and_then(|file| file.find(token)) {
            return Ok(identity);
        }
        match &self.jwt {
            Some(jwt) if JwtVerifier::is_jwt(token) => jwt.verify(token).await,
            _ => Err(AuthError::WrongToken),
        }
    }

    /// Whether callers need a token.
    pub fn requires_token(&self) -> bool {
        self.file.is_some() || self.jwt.is_some()
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

    fn load(path: Option<&Path>) -> Result<Authenticator, AuthFileError> {
        Authenticator::load(&AuthSettings {
            tokens_path: path.map(Path::to_owned),
            ..AuthSettings::default()
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
            Err(AuthFileError::Tokens(TokenFileError::Read { .. }))
        ));
    }

    #[test]
    fn check_files_reports_an_unusable_token_file() {
        let check = |path: &str| {
            let mut violations = Violations::default();
            let settings = AuthSettings {
                tokens_path: Some(path.into()),
                ..AuthSettings::default()
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
