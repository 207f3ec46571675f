//! Why a caller is not authenticated.

use super::jwt::JwtError;
use super::role::Role;

/// Why a request is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The request has no bearer token, or several.
    NoToken,
    /// The token is not in the file.
    WrongToken,
    /// The JWT is not valid.
    InvalidToken(JwtError),
    /// The issuer does not respond, and the JWT is signed with a key that is not known yet.
    KeysUnavailable,
    /// The caller is known and lacks this role.
    MissingRole(Role),
}

impl From<JwtError> for AuthError {
    fn from(error: JwtError) -> Self {
        Self::InvalidToken(error)
    }
}
