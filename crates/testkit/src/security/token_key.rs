//! A key that signs tokens of OAuth 2.0, and the file by which brokers know it.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

/// A key that signs tokens. Panics where its files can't be written or read.
pub struct TokenKey {
    pair: KeyPair,
}

impl TokenKey {
    /// Opens or creates the key in `folder`. The caller locks the folder. Returns it with the file of the public key, a JSON
    /// Web Key Set.
    pub fn open(folder: &Path) -> (Self, PathBuf) {
        let (private, public) = (folder.join("token-key.pem"), folder.join("jwks.json"));
        if public.exists() {
            let pem = fs::read_to_string(private).expect("the key is readable");
            let pair = KeyPair::from_pem(&pem).expect("the key is whole");
            return (Self { pair }, public);
        }
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key can be generated");
        let x = URL_SAFE_NO_PAD.encode(pair.der_bytes());
        let keys = json!({"keys": [{"kid": "key", "kty": "OKP", "crv": "Ed25519", "use": "sig", "x": x}]});
        fs::write(private, pair.serialize_pem()).expect("the folder is writable");
        fs::write(&public, keys.to_string()).expect("the folder is writable");
        (Self { pair }, public)
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "EdDSA", "kid": "key"});
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.pair.sign(message.as_bytes()).expect("the key signs");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
