//! Tokens for `sasl.mechanism = OAUTHBEARER`, by the client-credentials grant of OAuth 2.0 (RFC 6749, section 4.4).
//!
//! librdkafka's own implementation needs libcurl, which is not linked. The properties have the same names.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap rd_kafka_oauthbearer_set_token; the one use says why it is sound"
)]

use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientContext;
use rdkafka::client::{Client as RdkafkaClient, OAuthToken};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;
use reqwest::{Certificate, Client, ClientBuilder, StatusCode};
use serde::Deserialize;
use thiserror::Error;

/// The timeout of a request. A client's poll waits for it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The error codes of a token endpoint are short words.
const MAX_CODE_CHARS: usize = 64;

/// The properties that this module implements in place of librdkafka.
pub(crate) const PROPERTIES: [&str; 6] = [
    "https.ca.location",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
];

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The endpoint did not respond, or responded with an error that may pass.
    #[error("failed to get a token from {url}: {cause}")]
    Unavailable {
        /// The endpoint.
        url: String,
        /// What happened.
        cause: String,
    },
    /// The endpoint refuses the client.
    #[error("{url} refuses a token: {cause}. Check sasl.oauthbearer.client.id, client.secret and scope")]
    Refused {
        /// The endpoint.
        url: String,
        /// Status and error code of its response.
        cause: String,
    },
}

/// Fetches tokens of one client.
pub struct TokenSource {
    url: String,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
    ca: Option<PathBuf>,
    last: Mutex<TokenOutcome>,
}

/// How the last request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOutcome {
    /// There is a token, or there was no request yet.
    Granted,
    /// It failed for a reason that may pass. librdkafka reports that as rejected credentials.
    Unavailable,
    /// The endpoint refuses the client.
    Refused,
}

/// A successful response.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    /// In seconds.
    expires_in: u64,
}

/// An error response.
#[derive(Deserialize)]
struct ErrorResponse {
    error: String,
}

impl TokenSource {
    /// Returns the source that these properties, under their canonical names, describe. None for another mechanism.
    pub(crate) fn new(properties: &[(String, String)]) -> Option<Self> {
        let value = |name: &str| {
            let found = properties.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        value("sasl.mechanism").filter(|mechanism| mechanism == "OAUTHBEARER")?;
        Some(Self {
            url: value("sasl.oauthbearer.token.endpoint.url")?,
            client_id: value("sasl.oauthbearer.client.id").unwrap_or_default(),
            client_secret: value("sasl.oauthbearer.client.secret").unwrap_or_default(),
            scope: value("sasl.oauthbearer.scope"),
            ca: value("https.ca.location").map(PathBuf::from),
            last: Mutex::new(TokenOutcome::Granted),
        })
    }

    /// How the last request ended.
    pub fn last(&self) -> TokenOutcome {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches a token. Blocks for up to five seconds.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn token(&self) -> Result<OAuthToken, TokenError> {
        // A thread of its own, because the caller's may belong to a runtime.
        let fetched = std::thread::scope(|scope| scope.spawn(|| self.fetch_blocking()).join());
        let token = fetched.unwrap_or_else(|_| Err(self.unavailable(&"the request panicked")));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = match token {
            Ok(_) => TokenOutcome::Granted,
            Err(TokenError::Unavailable { .. }) => TokenOutcome::Unavailable,
            Err(TokenError::Refused { .. }) => TokenOutcome::Refused,
        };
        token
    }

    /// Fetches a token for a client that does not request it. Blocks for up to five seconds.
    ///
    /// # Errors
    /// When there is no token, or the client uses another mechanism.
    pub(crate) fn authenticate<C: ClientContext>(&self, client: &RdkafkaClient<C>) -> Result<(), KafkaError> {
        let token = self.token().map_err(|error| match error {
            TokenError::Refused { .. } => KafkaError::AdminOp(RDKafkaErrorCode::Authentication),
            TokenError::Unavailable { .. } => KafkaError::AdminOpCreation(error.to_string()),
        })?;
        let text =
            |text: String| CString::new(text).map_err(|error| KafkaError::AdminOpCreation(error.to_string()));
        let (value, principal) = (text(token.token)?, text(token.principal_name)?);
        let mut reason = [0; 256];
        // SAFETY: the client lives as long as the borrow. librdkafka copies the texts, and writes at most the given number
        // of bytes to `reason`.
        let code = unsafe {
            sys::rd_kafka_oauthbearer_set_token(
                client.native_ptr(),
                value.as_ptr(),
                token.lifetime_ms,
                principal.as_ptr(),
                std::ptr::null_mut(),
                0,
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        match code {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(KafkaError::AdminOp(code.into())),
        }
    }

    fn fetch_blocking(&self) -> Result<OAuthToken, TokenError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .map_err(|error| self.unavailable(&error))?
            .block_on(self.fetch())
    }

    async fn fetch(&self) -> Result<OAuthToken, TokenError> {
        let failed = |error: reqwest::Error| self.unavailable(&root_cause(&error.without_url()));
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let request = self
            .client()?
            .post(&self.url)
            .basic_auth(&self.client_id, Some(&self.client_secret))
            .form(&form);
        let requested_at = SystemTime::now();
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        if !status.is_success() {
            return Err(self.refused(status, &body));
        }
        let token: TokenResponse = serde_json::from_slice(&body)
            .map_err(|_| self.unavailable(&"the response has no access_token with expires_in"))?;
        let expires_at = requested_at + Duration::from_secs(token.expires_in);
        let lifetime = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(OAuthToken {
            token: token.access_token,
            principal_name: self.client_id.clone(),
            lifetime_ms: i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX),
        })
    }

    fn client(&self) -> Result<Client, TokenError> {
        let mut builder = Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &self.ca {
            let trusted = trusting(builder, path);
            builder = trusted.map_err(|cause| self.unavailable(&format!("https.ca.location: {cause}")))?;
        }
        builder.build().map_err(|error| self.unavailable(&error))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> TokenError {
        let code = serde_json::from_slice::<ErrorResponse>(body).map(|response| response.error);
        let code: String = code.unwrap_or_default().chars().take(MAX_CODE_CHARS).collect();
        let cause = format!("{status} {code}").trim_end().to_owned();
        match status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                TokenError::Refused {
                    url: self.url.clone(),
                    cause,
                }
            }
            _ => self.unavailable(&cause),
        }
    }

    fn unavailable(&self, cause: &dyn fmt::Display) -> TokenError {
        TokenError::Unavailable {
            url: self.url.clone(),
            cause: cause.to_string(),
        }
    }
}

/// Checks the file of `https.ca.location`. The error names it.
pub(crate) fn check_authorities(path: &Path) -> Result<(), String> {
    let client = trusting(Client::builder(), path)?.build();
    client.map(drop).map_err(|error| invalid(path, &error))
}

/// Adds the certificates in the file, at least one.
fn trusting(builder: ClientBuilder, path: &Path) -> Result<ClientBuilder, String> {
    let pem = std::fs::read(path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| invalid(path, &error))?;
    if certificates.is_empty() {
        return Err(format!("{} has no PEM certificate", path.display()));
    }
    Ok(certificates
        .into_iter()
        .fold(builder, ClientBuilder::add_root_certificate))
}

fn invalid(path: &Path, error: &reqwest::Error) -> String {
    format!(
        "{} has an invalid certificate: {}",
        path.display(),
        root_cause(error)
    )
}

/// The innermost error, such as "Connection refused (os error 111)".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn source(url: &str) -> TokenSource {
        let properties = [
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.token.endpoint.url", url),
            ("sasl.oauthbearer.client.id", "streamer"),
            ("sasl.oauthbearer.client.secret", "hunter2"),
            ("sasl.oauthbearer.scope", "kafka"),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        TokenSource::new(&properties).unwrap()
    }

    /// Responds to one request. Returns the URL, and the request that arrived.
    fn respond(status: &str, body: &str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let response = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"scope=kafka") {
                let mut bytes = [0; 1024];
                let count = stream.read(&mut bytes).unwrap();
                assert!(count > 0, "the request ended");
                request.extend_from_slice(&bytes[..count]);
            }
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (url, serving)
    }

    #[test]
    fn token_is_requested_with_client_credentials() {
        let (url, serving) = respond("200 OK", r#"{"access_token": "abc", "expires_in": 60}"#);
        let now = UNIX_EPOCH.elapsed().unwrap();
        let source = source(&url);
        let token = source.token().unwrap();
        assert_eq!((&*token.token, &*token.principal_name), ("abc", "streamer"));
        let expected = i64::try_from(now.as_millis()).unwrap() + 60_000;
        assert!((expected..expected + 60_000).contains(&token.lifetime_ms));
        let request = serving.join().unwrap();
        // "streamer:hunter2" in base64.
        assert!(request.contains("c3RyZWFtZXI6aHVudGVyMg=="), "{request}");
        assert!(
            request.ends_with("grant_type=client_credentials&scope=kafka"),
            "{request}"
        );
        assert_eq!(source.last(), TokenOutcome::Granted);
    }

    #[test]
    fn refused_client_is_told_apart_from_an_unavailable_endpoint() {
        let (url, serving) = respond("401 Unauthorized", r#"{"error": "invalid_client"}"#);
        let refused = source(&url);
        let error = refused.token().err().unwrap();
        assert_eq!(refused.last(), TokenOutcome::Refused);
        let text = error.to_string();
        assert!(
            text.contains(&url) && text.contains("401 Unauthorized invalid_client"),
            "{text}"
        );
        serving.join().unwrap();

        let (url, serving) = respond("503 Service Unavailable", "");
        let unavailable = source(&url);
        let error = unavailable.token().err().unwrap().to_string();
        assert_eq!(unavailable.last(), TokenOutcome::Unavailable);
        assert!(error.contains("503"), "{error}");
        serving.join().unwrap();
        // The listener is gone.
        let error = source(&url).token().err().unwrap().to_string();
        assert!(error.contains(&url) && error.contains("refused"), "{error}");
        assert!(!error.contains("hunter2"));
    }

    #[test]
    fn other_mechanism_has_no_tokens() {
        let properties = [("sasl.mechanism".to_owned(), "PLAIN".to_owned())];
        assert!(TokenSource::new(&properties).is_none());
    }
}
