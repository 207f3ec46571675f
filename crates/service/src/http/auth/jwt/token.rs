//! A JSON Web Token in its compact serialization (RFC 7519, RFC 7515): three parts in base64url. Nothing is verified here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::JwtError;

/// The algorithms that are accepted: asymmetric ones only. A symmetric one would make the public key a secret that everybody
/// knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A token whose signature has not been verified.
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// The bytes that are signed: header and claims.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that a verifier must understand. This one understands none.
    crit: Option<Value>,
}

impl<'a> Token<'a> {
    /// Whether the text has the three parts of a JWT.
    pub(super) fn is_like(text: &[u8]) -> bool {
        text.iter().filter(|byte| **byte == b'.').count() == 2
    }

    pub(super) fn parse(text: &'a [u8]) -> Result<Self, JwtError> {
        let parts: Vec<_> = text.split(|byte| *byte == b'.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(JwtError::Malformed);
        };
        let signed = &text[..header.len() + 1 + claims.len()];
        let header: Header = json(header)?;
        let algorithm = Algorithm::from_name(&header.alg).ok_or(JwtError::Algorithm)?;
        if header.crit.is_some() {
            return Err(JwtError::Malformed);
        }
        Ok(Self {
            algorithm,
            key_id: header.kid,
            claims: json(claims)?,
            signed,
            signature: base64(signature)?,
        })
    }
}

fn json<T: for<'de> Deserialize<'de>>(part: &[u8]) -> Result<T, JwtError> {
    serde_json::from_slice(&base64(part)?).map_err(|_| JwtError::Malformed)
}

fn base64(part: &[u8]) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)
}
