//! Why a JWT is refused.

use thiserror::Error;

/// Why a JWT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JwtError {
    /// It does not parse.
    #[error("the token is malformed")]
    Malformed,
    /// Its algorithm is not supported, or not that of its key.
    #[error("the token must be signed with RS256, ES256 or EdDSA, as its key requires")]
    Algorithm,
    /// It is signed with a key that the issuer does not have.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the token is invalid")]
    Signature,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It is of another issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// It is for others.
    #[error("the token is for another audience")]
    Audience,
    /// A claim is missing or malformed.
    #[error("the token must have valid claims sub and exp")]
    Claims,
}
