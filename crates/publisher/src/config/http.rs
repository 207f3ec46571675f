//! Settings of the API's server and its TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::config::{List, Violations};
use service::files::pem;
use service::http::connection::ConnectionLimits;

/// The API's server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSettings {
    /// The listen address; port 0 selects a free port, which is logged.
    pub listen: SocketAddr,
    /// Whether an address that is reachable from other machines may be served without authentication.
    pub allow_anonymous: bool,
    /// The maximum number of open connections; more wait in the operating system's queue.
    pub max_connections: usize,
    /// The timeout of a request's header, and of an idle connection.
    #[serde(with = "service::duration")]
    pub header_timeout: Duration,
    /// The timeout of a request's body.
    #[serde(with = "service::duration")]
    pub body_timeout: Duration,
    /// The minimum rate of a body, in bytes a second, after its first two seconds; zero disables it.
    pub min_body_rate: ByteSize,
    /// How long a caller may stop reading its response.
    #[serde(with = "service::duration")]
    pub write_timeout: Duration,
    /// The minimum rate at which a caller reads its response, in bytes a second, after `write_timeout`; zero disables it.
    pub min_response_rate: ByteSize,
    /// The maximum age of a connection. After it the caller has to connect again, so that callers spread over all
    /// replicas.
    #[serde(with = "service::duration")]
    pub max_connection_age: Duration,
    /// The timeout of a whole request. Longer than the sum of body and message timeout, because the response follows the
    /// producer's timeout.
    #[serde(with = "service::duration")]
    pub request_timeout: Duration,
    /// The origins whose web pages may call the API, such as `https://app.example.com`; none: CORS is off.
    pub cors_origins: List,
    /// Which requests are logged.
    pub access_log: AccessLog,
    /// How often the files of `tls` and `auth` are checked for changes.
    #[serde(with = "service::duration")]
    pub reload_interval: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            allow_anonymous: false,
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            min_body_rate: ByteSize::kib(1),
            write_timeout: Duration::from_secs(10),
            min_response_rate: ByteSize::kib(16),
            max_connection_age: Duration::from_secs(3600),
            request_timeout: Duration::from_secs(30),
            cors_origins: List::default(),
            access_log: AccessLog::Off,
            reload_interval: Duration::from_secs(5),
        }
    }
}

/// Whether browsers would send this text as `Origin`.
fn is_origin(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let is_host =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
        !rest.is_empty() && rest.bytes().all(is_host)
    })
}

/// Which requests are logged. A line has no value of a record and no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// None.
    #[default]
    Off,
    /// Those without a 2xx response.
    Errors,
    /// All.
    All,
}

impl HttpSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require_positive(&self.max_connections, "http.max_connections");
        violations.require(
            self.cors_origins.iter().all(|origin| is_origin(origin)),
            "http.cors_origins",
            "must be origins: http:// or https://, a host in lower case, and a port unless it is the default one",
        );
    }

    /// The origins of CORS.
    pub(crate) fn cors_origins(&self) -> Vec<HeaderValue> {
        let origins = self.cors_origins.iter();
        origins
            .filter_map(|origin| HeaderValue::from_str(origin).ok())
            .collect()
    }

    /// The limits of the API's connections.
    pub(crate) fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            max_connections: self.max_connections,
            header_timeout: self.header_timeout,
            write_timeout: self.write_timeout,
            min_response_rate: self.min_response_rate.as_u64(),
            max_age: self.max_connection_age,
            drain_timeout: self.request_timeout + self.write_timeout,
        }
    }
}

/// TLS of the API. Disabled without a certificate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSettings {
    /// The certificate chain, PEM.
    pub certificate_path: Option<PathBuf>,
    /// Its private key, PEM.
    pub key_path: Option<PathBuf>,
    /// The certificate authorities of callers, PEM; if not set, callers need no certificate.
    pub client_ca_path: Option<PathBuf>,
    /// The certificate revocation lists of these authorities, PEM: one of each.
    pub client_crl_path: Option<PathBuf>,
}

impl TlsSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(
            self.certificate_path.is_some() == self.key_path.is_some(),
            "tls.key_path",
            "must be set together with tls.certificate_path",
        );
        violations.require(
            self.client_ca_path.is_none() || self.certificate_path.is_some(),
            "tls.client_ca_path",
            "requires tls.certificate_path",
        );
        violations.require(
            self.client_crl_path.is_none() || self.client_ca_path.is_some(),
            "tls.client_crl_path",
            "requires tls.client_ca_path",
        );
    }

    pub(super) fn check_files(&self, violations: &mut Violations) {
        if let (Some(certificate), Some(key)) = (&self.certificate_path, &self.key_path) {
            let (certificate, key) = (("tls.certificate_path", &**certificate), ("tls.key_path", &**key));
            pem::check_key_pair(violations, certificate, key);
        }
        if let Some(path) = &self.client_ca_path {
            pem::check_authorities(violations, "tls.client_ca_path", path);
        }
        if let Some(path) = &self.client_crl_path {
            pem::check_revocation_lists(violations, "tls.client_crl_path", path);
        }
    }
}
