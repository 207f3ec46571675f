//! JSON Web Tokens of an issuer that runs in this process.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::auth::token_line;
use crate::support::publisher_process::{Publisher, ready_with, status_and_body};
use crate::support::sample_users::user;

/// An issuer with one key at a time.
struct Issuer {
    url: String,
    key: Arc<Mutex<Key>>,
    serving: JoinHandle<()>,
}

struct Key {
    id: String,
    pair: KeyPair,
}

impl Key {
    fn new(id: &str) -> Self {
        let id = id.to_owned();
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Self { id, pair }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.id});
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let signature = self.pair.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", base64(signature))
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = Arc::new(Mutex::new(Key::new("first")));
        let serving = tokio::spawn(serve(listener, url.clone(), Arc::clone(&key)));
        Self { url, key, serving }
    }

    /// A token of the current key with these roles, which expires in `lifetime` seconds.
    fn token(&self, roles: &[&str], lifetime: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expires_at = i64::try_from(now).unwrap() + lifetime;
        let claims = json!({
            "iss": self.url, "aud": "publisher", "sub": "shop", "exp": expires_at, "roles": roles,
        });
        self.key.lock().unwrap().sign(&claims)
    }
}

/// Responds to each connection once: with the keys if they are requested, else with the configuration.
async fn serve(listener: TcpListener, url: String, key: Arc<Mutex<Key>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { break };
            request.push(byte);
        }
        let document = if request.starts_with(b"GET /keys ") {
            let key = key.lock().unwrap();
            let x = base64(key.pair.der_bytes());
            json!({"keys": [{"kid": key.id, "kty": "OKP", "crv": "Ed25519", "x": x}]})
        } else {
            json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
        };
        let body = document.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // A caller that has gone needs no response.
        let _ = stream.write_all((head + &body).as_bytes()).await;
    }
}

async fn post(publisher: &Publisher, token: &str) -> (u16, Value) {
    let request = publisher.post("application/json", user().to_string());
    status_and_body(request.bearer_auth(token)).await
}

async fn delete(publisher: &Publisher, token: &str) -> (u16, Value) {
    let url = format!("{}/v1/users/0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071", publisher.url);
    status_and_body(publisher.client.delete(url).bearer_auth(token)).await
}

fn problem(name: &str) -> Value {
    json!(format!("urn:affluent:problem:{name}"))
}

#[tokio::test]
async fn callers_have_the_roles_of_their_tokens() {
    let issuer = Issuer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let restricted = token_line("writer", "w").replace('\n', " write\n");
    std::fs::write(&tokens, token_line("all", "a") + &restricted).unwrap();
    let (publisher, topic) = ready_with(|setup| {
        setup
            .set("auth.jwt.issuer", &issuer.url)
            .set("auth.jwt.audience", "publisher")
            .set("auth.tokens_path", tokens.to_str().unwrap())
            .set("http.access_log", "all")
    })
    .await;

    let writer = issuer.token(&["write"], 600);
    publisher
        .wait_until("accepting the issuer's tokens", async || {
            post(&publisher, &writer).await.0 == 200
        })
        .await;
    publisher
        .wait_until("logging the caller", async || {
            publisher.service.last_lines(20).contains("\"caller\":\"shop\"")
        })
        .await;
    let (status, body) = delete(&publisher, &writer).await;
    assert_eq!((status, &body["type"]), (403, &problem("missing-role")));
    assert_eq!(delete(&publisher, &issuer.token(&["erase"], 600)).await.0, 204);
    assert_eq!(post(&publisher, &issuer.token(&["erase"], 600)).await.0, 403);

    let expired = issuer.token(&["write"], -60);
    let request = publisher.post("application/json", user().to_string());
    let response = request.bearer_auth(&expired).send().await.unwrap();
    assert_eq!(
        response.headers()["www-authenticate"],
        "Bearer error=\"invalid_token\""
    );
    let (status, body) = post(&publisher, &expired).await;
    assert_eq!((status, &body["type"]), (401, &problem("invalid-token")));
    assert_eq!(body["detail"], "the token has expired");

    // Tokens of the file are accepted as well, each with its roles.
    assert_eq!(post(&publisher, "a").await.0, 200);
    assert_eq!(delete(&publisher, "a").await.0, 204);
    assert_eq!(post(&publisher, "w").await.0, 200);
    assert_eq!(delete(&publisher, "w").await.0, 403);
    assert_eq!(post(&publisher, "unknown").await.0, 403);

    // The issuer is away: known keys stay valid, and a token of another key is no caller's fault.
    issuer.serving.abort();
    assert_eq!(post(&publisher, &issuer.token(&["write"], 900)).await.0, 200);
    *issuer.key.lock().unwrap() = Key::new("second");
    publisher
        .wait_until("requesting the issuer's keys again", async || {
            let (status, body) = post(&publisher, &issuer.token(&["write"], 600)).await;
            assert!(status == 401 || status == 503, "{status}");
            body["type"] == problem("keys-unavailable")
        })
        .await;

    assert!(!publisher.service.last_lines(1000).contains(&writer));
    assert!(topic.read().await.len() >= 6);
    publisher.wait_until_idle().await;
}
