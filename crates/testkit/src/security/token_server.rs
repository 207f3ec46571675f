//! A token endpoint of OAuth 2.0 for clients of Kafka, by HTTPS, and the key that brokers know.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::Listener;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificates::CertificateAuthority;
use crate::token_key::TokenKey;

/// Audience of the tokens.
pub const AUDIENCE: &str = "kafka";
/// Secret of each client.
pub const CLIENT_SECRET: &str = "client-secret";

/// A running endpoint.
pub struct TokenServer {
    url: String,
    endpoint: Arc<TokenEndpoint>,
    serving: JoinHandle<()>,
}

struct TokenEndpoint {
    key: TokenKey,
    lifetime: Duration,
    is_down: AtomicBool,
    issued: AtomicUsize,
    refused: AtomicUsize,
}

impl TokenServer {
    /// Starts an endpoint whose tokens expire after `lifetime`, which is rounded down to seconds. `authority` issues its
    /// certificate.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(
        key: TokenKey,
        lifetime: Duration,
        authority: &CertificateAuthority,
    ) -> io::Result<Self> {
        let listener = TlsListener {
            listener: TcpListener::bind("127.0.0.1:0").await?,
            acceptor: acceptor(authority),
        };
        let url = format!("https://{}/token", listener.local_addr()?);
        let endpoint = Arc::new(TokenEndpoint {
            key,
            lifetime,
            is_down: AtomicBool::new(false),
            issued: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route("/token", post(issue))
            .with_state(Arc::clone(&endpoint));
        let serving = tokio::spawn(async move {
            // Ends with the task only.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            url,
            endpoint,
            serving,
        })
    }

    /// The URL of the endpoint.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Responds with 503 from now on, or with tokens again.
    pub fn set_down(&self, is_down: bool) {
        self.endpoint.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Returns how many tokens were issued.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.endpoint.issued.load(Ordering::Relaxed)
    }
}

impl TokenServer {
    /// Returns how many requests got a 503.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.endpoint.refused.load(Ordering::Relaxed)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Accepts connections with TLS. A failed handshake is the client's affair.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, address)) = self.listener.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn acceptor(authority: &CertificateAuthority) -> TlsAcceptor {
    let (certificate, key) = authority.issue_once("token-server", &["127.0.0.1"]);
    let certificate = CertificateDer::from_pem_file(certificate).expect("the certificate is readable");
    let key = PrivateKeyDer::from_pem_file(key).expect("the key is readable");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("the certificate fits its key");
    TlsAcceptor::from(Arc::new(config))
}

/// Issues a token whose subject is the id of the client.
async fn issue(State(endpoint): State<Arc<TokenEndpoint>>, headers: HeaderMap) -> Response {
    if endpoint.is_down.load(Ordering::Relaxed) {
        endpoint.refused.fetch_add(1, Ordering::Relaxed);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let Some(client) = client_id(&headers) else {
        let error = Json(json!({"error": "invalid_client"}));
        return (StatusCode::UNAUTHORIZED, error).into_response();
    };
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let lifetime = endpoint.lifetime.as_secs();
    let claims = json!({"sub": client, "aud": AUDIENCE, "iat": now, "exp": now + lifetime});
    endpoint.issued.fetch_add(1, Ordering::Relaxed);
    Json(json!({
        "access_token": endpoint.key.sign(&claims),
        "token_type": "Bearer",
        "expires_in": lifetime,
    }))
    .into_response()
}

/// The client that authenticates with the right secret.
fn client_id(headers: &HeaderMap) -> Option<String> {
    let credentials = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let credentials = STANDARD.decode(credentials.strip_prefix("Basic ")?).ok()?;
    let credentials = String::from_utf8(credentials).ok()?;
    let (client, secret) = credentials.split_once(':')?;
    (secret == CLIENT_SECRET).then(|| client.to_owned())
}
