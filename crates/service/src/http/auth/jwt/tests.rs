//! Tests with keys of their own, and with an issuer in this process.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use axum::Router;
use axum::http::StatusCode as Status;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::config::List;
use crate::http::auth::Role;

enum Private {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A private key of an issuer.
struct Signer {
    id: &'static str,
    private: Private,
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

impl Signer {
    fn ed(id: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let private = Private::Ed(pair);
        Self { id, private }
    }

    fn ec(id: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let private = Private::Ec(pair);
        Self { id, private }
    }

    fn rsa(id: &'static str) -> Self {
        let private = Private::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        Self { id, private }
    }

    fn algorithm(&self) -> &'static str {
        match self.private {
            Private::Rsa(_) => "RS256",
            Private::Ec(_) => "ES256",
            Private::Ed(_) => "EdDSA",
        }
    }

    fn jwk(&self) -> Value {
        match &self.private {
            Private::Rsa(pair) => {
                // The DER of a key of 2048 bits has its modulus and exponent at fixed places (PKCS #1).
                let der = pair.public_key().as_ref();
                let (n, e) = (base64(&der[9..265]), base64(&der[267..]));
                json!({"kid": self.id, "kty": "RSA", "alg": "RS256", "use": "sig", "n": n, "e": e})
            }
            Private::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (base64(&point[1..33]), base64(&point[33..]));
                json!({"kid": self.id, "kty": "EC", "crv": "P-256", "x": x, "y": y})
            }
            Private::Ed(pair) => {
                let x = base64(pair.public_key());
                json!({"kid": self.id, "kty": "OKP", "crv": "Ed25519", "key_ops": ["verify"], "x": x})
            }
        }
    }

    fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Private::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Private::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this header and these claims.
    fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let signature = base64(self.sign_bytes(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm(), "kid": self.id, "typ": "JWT"});
        self.sign_with(&header, claims)
    }
}

fn claims() -> Value {
    json!({"aud": "publisher", "sub": "ingester", "exp": now() + 600, "roles": ["write"]})
}

fn key_set(signers: &[&Signer]) -> Value {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()})
}

fn settings() -> JwtSettings {
    JwtSettings {
        audience: List::of(["publisher"]),
        ..JwtSettings::default()
    }
}

/// A verifier with the keys of a file.
fn with_file(keys: &Value) -> (JwtVerifier, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), keys.to_string()).unwrap();
    let settings = JwtSettings {
        jwks_path: Some(file.path().to_owned()),
        ..settings()
    };
    (JwtVerifier::load(&settings).unwrap().unwrap(), file)
}

async fn refused(verifier: &JwtVerifier, token: &str) -> JwtError {
    match verifier.verify(token.as_bytes()).await {
        Err(AuthError::InvalidToken(error)) => error,
        other => panic!("{token}: {other:?}"),
    }
}

#[tokio::test]
async fn each_algorithm_is_verified_with_its_key() {
    let signers = [Signer::rsa("rsa"), Signer::ec("ec"), Signer::ed("ed")];
    let (verifier, _file) = with_file(&key_set(&[&signers[0], &signers[1], &signers[2]]));
    for signer in &signers {
        for _ in 0..2 {
            let identity = verifier.verify(signer.sign(&claims()).as_bytes()).await.unwrap();
            assert_eq!(&*identity.name, "ingester");
            assert_eq!(identity.require(Role::Write), Ok(()));
            assert!(identity.require(Role::Erase).is_err());
        }
        // Without the name of its key each key of its algorithm is tried.
        let unnamed = signer.sign_with(&json!({"alg": signer.algorithm()}), &claims());
        assert!(verifier.verify(unnamed.as_bytes()).await.is_ok());
    }
}

#[tokio::test]
async fn changed_or_foreign_tokens_are_refused() {
    let (signer, other) = (Signer::ec("a"), Signer::ec("a"));
    let (verifier, _file) = with_file(&key_set(&[&signer]));
    let token = signer.sign(&claims());
    assert!(verifier.verify(token.as_bytes()).await.is_ok());
    assert_eq!(
        refused(&verifier, &other.sign(&claims())).await,
        JwtError::Signature
    );
    let parts: Vec<_> = token.split('.').collect();
    let mut forged = claims();
    forged["roles"] = json!(["write", "erase"]);
    let forged = format!("{}.{}.{}", parts[0], base64(forged.to_string()), parts[2]);
    assert_eq!(refused(&verifier, &forged).await, JwtError::Signature);
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    assert_eq!(refused(&verifier, &unsigned).await, JwtError::Signature);
    let mut expired = claims();
    expired["exp"] = json!(now() - 60);
    assert_eq!(
        refused(&verifier, &signer.sign(&expired)).await,
        JwtError::Expired
    );
    let mut foreign = claims();
    foreign["aud"] = json!("others");
    assert_eq!(
        refused(&verifier, &signer.sign(&foreign)).await,
        JwtError::Audience
    );
    let unknown = signer.sign_with(&json!({"alg": "ES256", "kid": "b"}), &claims());
    assert_eq!(refused(&verifier, &unknown).await, JwtError::UnknownKey);
    let critical = json!({"alg": "ES256", "kid": "a", "crit": ["x"], "x": 1});
    for malformed in ["..", "a.b.c", &signer.sign_with(&critical, &claims())] {
        assert_eq!(
            refused(&verifier, malformed).await,
            JwtError::Malformed,
            "{malformed}"
        );
    }
}

/// An attacker chooses the algorithm of the header, and knows every public key.
#[tokio::test]
async fn header_does_not_choose_the_algorithm() {
    let (rsa, ec) = (Signer::rsa("rsa"), Signer::ec("ec"));
    let (verifier, _file) = with_file(&key_set(&[&rsa, &ec]));
    for algorithm in ["none", "None", "HS256", "RS512", "PS256", "ES384", ""] {
        let token = rsa.sign_with(&json!({"alg": algorithm, "kid": "rsa"}), &claims());
        assert_eq!(
            refused(&verifier, &token).await,
            JwtError::Algorithm,
            "{algorithm}"
        );
    }
    // A key of one kind under the name of a key of another.
    let token = ec.sign_with(&json!({"alg": "ES256", "kid": "rsa"}), &claims());
    assert_eq!(refused(&verifier, &token).await, JwtError::Algorithm);
    // A key in the header is no key of the issuer.
    let stranger = Signer::ed("stranger");
    let header = json!({"alg": "EdDSA", "kid": "stranger", "jwk": stranger.jwk()});
    let token = stranger.sign_with(&header, &claims());
    assert_eq!(refused(&verifier, &token).await, JwtError::UnknownKey);
}

#[test]
fn key_set_skips_keys_that_verify_no_signature() {
    let signer = Signer::ed("a");
    let keys = |keys: Value| JwkSet::parse(json!({"keys": keys}).to_string().into_bytes());
    let secret = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"});
    let with = |name: &str, value: Value| {
        let mut key = signer.jwk();
        key[name] = value;
        key
    };
    let unusable = [
        secret,
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("RS256")),
        with("crv", json!("Ed448")),
        with("x", json!("AA")),
        json!({"kty": "unknown"}),
        json!(7),
    ];
    for key in &unusable {
        assert!(matches!(keys(json!([key])), Err(KeySetError::NoKey)), "{key}");
    }
    let all: Vec<_> = unusable.into_iter().chain([signer.jwk()]).collect();
    assert!(keys(json!(all)).is_ok());
    assert!(matches!(
        keys(json!(vec![signer.jwk(); 65])),
        Err(KeySetError::TooMany)
    ));
    assert!(matches!(
        JwkSet::parse(b"{}".to_vec()),
        Err(KeySetError::Document(_))
    ));
}

#[tokio::test]
async fn file_of_keys_is_reloaded() {
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    let (verifier, file) = with_file(&key_set(&[&old]));
    let token = old.sign(&claims());
    assert!(verifier.verify(token.as_bytes()).await.is_ok());
    assert!(!verifier.reload().unwrap());
    std::fs::write(file.path(), "{}").unwrap();
    assert!(verifier.reload().is_err());
    assert!(verifier.verify(token.as_bytes()).await.is_ok());
    std::fs::write(file.path(), key_set(&[&new]).to_string()).unwrap();
    assert!(verifier.reload().unwrap());
    // What the old keys verified is forgotten.
    assert_eq!(refused(&verifier, &token).await, JwtError::UnknownKey);
    assert!(verifier.verify(new.sign(&claims()).as_bytes()).await.is_ok());
}

/// An issuer in this process.
struct FakeIssuer {
    url: String,
    keys: Arc<Mutex<Value>>,
    is_away: Arc<AtomicBool>,
    fetches: Arc<AtomicUsize>,
}

impl FakeIssuer {
    async fn start(keys: Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realm", listener.local_addr().unwrap());
        let issuer = Self {
            url: url.clone(),
            keys: Arc::new(Mutex::new(keys)),
            is_away: Arc::default(),
            fetches: Arc::default(),
        };
        let configuration = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let (keys, is_away, fetches) = (
            Arc::clone(&issuer.keys),
            Arc::clone(&issuer.is_away),
            Arc::clone(&issuer.fetches),
        );
        let served = move || {
            fetches.fetch_add(1, Ordering::SeqCst);
            let text = keys.lock().unwrap().to_string();
            let status = if is_away.load(Ordering::SeqCst) {
                Status::BAD_GATEWAY
            } else {
                Status::OK
            };
            async move { (status, text) }
        };
        let router = Router::new()
            .route(
                "/realm/.well-known/openid-configuration",
                get(async move || configuration),
            )
            .route("/realm/keys", get(served));
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// A verifier of this issuer's tokens, which may fetch the keys this often, and the task that refreshes it.
    fn verifier(&self, min_fetch_interval: Duration) -> Arc<JwtVerifier> {
        let settings = JwtSettings {
            issuer: Some(self.url.clone()),
            ..settings()
        };
        let mut verifier = JwtVerifier::load(&settings).unwrap().unwrap();
        if let KeySource::Issuer(issuer) = &mut verifier.source {
            issuer.min_fetch_interval = min_fetch_interval;
        }
        Arc::new(verifier)
    }

    fn claims(&self) -> Value {
        let mut claims = claims();
        claims["iss"] = json!(self.url);
        claims
    }
}

fn refresh(verifier: &Arc<JwtVerifier>, health: &Health) {
    let (verifier, health) = (Arc::clone(verifier), health.clone());
    tokio::spawn(async move { verifier.refresh(&health, true, CancellationToken::new()).await });
}

/// Verifies a token until the result is `expected`: a fetch may have begun before the issuer changed.
async fn verify_until(verifier: &JwtVerifier, token: &str, expected: Result<&str, AuthError>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let result = verifier.verify(token.as_bytes()).await;
        let name = result.as_ref().map(|caller| &*caller.name);
        if name.map_err(|error| *error) == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{result:?}");
    }
}

#[tokio::test]
async fn unknown_key_is_fetched_and_known_ones_outlive_the_issuer() {
    let (old, new) = (Signer::ec("old"), Signer::ed("new"));
    let issuer = FakeIssuer::start(key_set(&[&old])).await;
    let (verifier, health) = (issuer.verifier(Duration::ZERO), Health::default());
    refresh(&verifier, &health);
    // The first token waits for the first fetch.
    let first = old.sign(&issuer.claims());
    verify_until(&verifier, &first, Ok("ingester")).await;
    assert!(health.readiness().ready);

    *issuer.keys.lock().unwrap() = key_set(&[&old, &new]);
    let rotated = new.sign(&issuer.claims());
    verify_until(&verifier, &rotated, Ok("ingester")).await;

    issuer.is_away.store(true, Ordering::SeqCst);
    let stranger = Signer::ed("stranger").sign(&issuer.claims());
    verify_until(&verifier, &stranger, Err(AuthError::KeysUnavailable)).await;
    for signer in [&old, &new] {
        let mut another = issuer.claims();
        another["jti"] = json!(1);
        assert!(verifier.verify(signer.sign(&another).as_bytes()).await.is_ok());
    }
    assert!(health.readiness().ready, "the keys are known");
}

#[tokio::test]
async fn unknown_keys_are_fetched_at_a_bounded_rate() {
    let signer = Signer::ed("a");
    let issuer = FakeIssuer::start(key_set(&[&signer])).await;
    let verifier = issuer.verifier(Duration::from_secs(600));
    refresh(&verifier, &Health::default());
    assert!(
        verifier
            .verify(signer.sign(&issuer.claims()).as_bytes())
            .await
            .is_ok()
    );
    for _ in 0..20 {
        let stranger = Signer::ed("b").sign(&issuer.claims());
        assert_eq!(refused(&verifier, &stranger).await, JwtError::UnknownKey);
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn process_is_not_ready_without_keys() {
    let issuer = FakeIssuer::start(json!({"keys": []})).await;
    let (verifier, health) = (issuer.verifier(Duration::from_millis(1)), Health::default());
    refresh(&verifier, &health);
    let token = Signer::ed("a").sign(&issuer.claims());
    verify_until(&verifier, &token, Err(AuthError::KeysUnavailable)).await;
    let readiness = health.readiness();
    let reason = readiness.dependencies[0].reason.as_deref().unwrap();
    assert!(
        !readiness.ready && reason.contains("no key for RS256"),
        "{reason}"
    );
}

#[tokio::test]
async fn configuration_of_another_issuer_is_refused() {
    let issuer = FakeIssuer::start(key_set(&[&Signer::ed("a")])).await;
    let other = JwtSettings {
        issuer: Some(issuer.url.replace("127.0.0.1", "localhost")),
        ..settings()
    };
    let client = IssuerClient::new(&other).unwrap().unwrap();
    let error = client.fetch().await.unwrap_err();
    assert!(matches!(error, FetchError::OtherIssuer(_)), "{error}");
    assert_eq!(issuer.fetches(), 0);
}

#[test]
fn settings_must_be_complete_and_secure() {
    let broken = |settings: JwtSettings| {
        let mut violations = Violations::default();
        settings.validate(&mut violations);
        violations
            .iter()
            .map(|violation| violation.key.clone())
            .collect::<Vec<_>>()
    };
    let issuer = |url: &str| JwtSettings {
        issuer: Some(url.to_owned()),
        ..settings()
    };
    assert!(broken(JwtSettings::default()).is_empty());
    assert!(broken(issuer("https://issuer.example")).is_empty());
    assert_eq!(broken(issuer("http://issuer.example")), ["auth.jwt.issuer"]);
    assert_eq!(broken(settings()), ["auth.jwt.audience"]);
    let without = JwtSettings {
        audience: List::default(),
        ..issuer("https://issuer.example")
    };
    assert_eq!(broken(without), ["auth.jwt.audience"]);
    let both = JwtSettings {
        jwks_path: Some("/x".into()),
        jwks_url: Some("https://issuer.example/keys".to_owned()),
        ..settings()
    };
    assert_eq!(broken(both), ["auth.jwt.jwks_url"]);
}
