//! The public keys of an issuer: a JSON Web Key Set (RFC 7517).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::claims::Verified;
use super::error::JwtError;
use super::token::{Algorithm, Token};

/// The most keys of an issuer. A token without `kid` is verified with each of its algorithm.
const MAX_KEYS: usize = 64;

/// The most tokens whose verification is remembered: at most 400 KiB.
const MAX_VERIFIED: usize = 1024;

/// A key set is not usable.
#[derive(Debug, Error)]
pub enum KeySetError {
    /// It is not JSON, or has no list of keys.
    #[error("the document is no JSON Web Key Set")]
    Document(#[source] serde_json::Error),
    /// It has too many keys.
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
    /// No key can verify signatures of a supported algorithm.
    #[error("the key set has no key for RS256, ES256 or EdDSA")]
    NoKey,
}

/// The file of keys is not usable.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// Reading it failed.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// It is no key set.
    #[error("failed to parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: KeySetError,
    },
}

/// The keys of one version of the key set, and the tokens that they verified.
pub(super) struct JwkSet {
    /// The document, to recognize a change.
    text: Vec<u8>,
    keys: Vec<VerificationKey>,
    /// By the SHA-256 of the token. A signature takes longer to verify than the rest of a small request.
    verified: Mutex<HashMap<[u8; 32], Verified>>,
}

struct VerificationKey {
    id: Option<String>,
    algorithm: Algorithm,
    public: ParsedPublicKey,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl JwkSet {
    /// Parses a key set. Keys of other kinds, uses and algorithms are skipped.
    pub(super) fn parse(text: Vec<u8>) -> Result<Self, KeySetError> {
        let set: KeySet = serde_json::from_slice(&text).map_err(KeySetError::Document)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<_> = set
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok()?.into_key())
            .collect();
        if keys.is_empty() {
            return Err(KeySetError::NoKey);
        }
        Ok(Self {
            text,
            keys,
            verified: Mutex::default(),
        })
    }

    pub(super) fn is_of(&self, text: &[u8]) -> bool {
        self.text == text
    }

    /// Whether the set has a key that the token may be signed with.
    pub(super) fn may_verify(&self, token: &Token<'_>) -> bool {
        self.candidates(token).next().is_some()
    }

    /// Verifies the signature of a token.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), JwtError> {
        let mut error = JwtError::UnknownKey;
        for key in self.candidates(token) {
            // The key decides on the algorithm, not the token.
            if key.algorithm != token.algorithm {
                error = JwtError::Algorithm;
            } else if key.public.verify_sig(token.signed, &token.signature).is_ok() {
                return Ok(());
            } else {
                error = JwtError::Signature;
            }
        }
        Err(error)
    }

    fn candidates(&self, token: &Token<'_>) -> impl Iterator<Item = &VerificationKey> {
        self.keys.iter().filter(|key| match &token.key_id {
            Some(id) => key.id.as_ref() == Some(id),
            None => key.algorithm == token.algorithm,
        })
    }

    /// What is known of the token with this SHA-256, unless it has expired at `now`.
    pub(super) fn verified(&self, sha256: &[u8; 32], now: i64) -> Option<Verified> {
        let known = self.lock().get(sha256).cloned();
        known.filter(|verified| !verified.is_expired(now))
    }

    pub(super) fn remember(&self, sha256: [u8; 32], verified: Verified, now: i64) {
        let mut known = self.lock();
        if known.len() >= MAX_VERIFIED {
            known.retain(|_, verified| !verified.is_expired(now));
        }
        if known.len() >= MAX_VERIFIED {
            known.clear();
        }
        known.insert(sha256, verified);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jwk {
    /// The key, if it is for signatures of a supported algorithm.
    fn into_key(self) -> Option<VerificationKey> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = |operations: &Vec<String>| operations.iter().any(|operation| operation == "verify");
        if !for_signatures || !self.key_ops.as_ref().is_none_or(verifies) {
            return None;
        }
        let (algorithm, public) = self.public()?;
        let named = self.alg.as_deref().map(Algorithm::from_name);
        named
            .is_none_or(|named| named == Some(algorithm))
            .then_some(VerificationKey {
                id: self.kid,
                algorithm,
                public,
            })
    }

    fn public(&self) -> Option<(Algorithm, ParsedPublicKey)> {
        match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(self.n.as_ref())?, bytes(self.e.as_ref())?);
                let components = RsaPublicKeyComponents {
                    n: without_zeros(&n),
                    e: without_zeros(&e),
                };
                let key = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
                Some((Algorithm::Rs256, key.ok()?))
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(self.x.as_ref())?, bytes(self.y.as_ref())?);
                // An uncompressed point (SEC 1).
                let point = [&[4][..], &x, &y].concat();
                let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                Some((Algorithm::Es256, key.ok()?))
            }
            ("OKP", Some("Ed25519")) => {
                let key = ParsedPublicKey::new(&ED25519, bytes(self.x.as_ref())?);
                Some((Algorithm::EdDsa, key.ok()?))
            }
            _ => None,
        }
    }
}

/// Reads the keys of a file.
pub(super) fn read(path: &Path) -> Result<JwkSet, KeyFileError> {
    JwkSet::parse(read_text(path)?).map_err(|source| KeyFileError::Parse {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn read_text(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    std::fs::read(path).map_err(|source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    })
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

/// Some issuers write the sign byte of a big number, which RFC 7518 does not allow.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
