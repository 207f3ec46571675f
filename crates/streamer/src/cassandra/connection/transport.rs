//! The transport to a node: TCP, optionally with TLS. Knows no protocol above it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use service::files::pem::{PemError, PemFile};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::config::TlsSettings;

/// A connected transport.
pub type NodeStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The configured files can't be used for TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can't be read or parsed.
    #[error(transparent)]
    File(#[from] PemError),
    /// Certificate and key do not match, or the TLS configuration is invalid.
    #[error("failed to apply cassandra.tls")]
    Config(#[source] rustls::Error),
    /// The server name can't be the name of a certificate.
    #[error("cassandra.tls.server_name is neither a DNS name nor an IP address")]
    ServerName,
}

/// Connects to nodes.
#[derive(Clone)]
pub struct Dialer {
    tls: Option<ServerTls>,
}

#[derive(Clone)]
struct ServerTls {
    connector: TlsConnector,
    /// The name in every node's certificate. `None`: its IP address.
    server_name: Option<ServerName<'static>>,
}

impl Dialer {
    /// Reads the files if TLS is configured.
    ///
    /// # Errors
    /// [`TlsError`], with the file.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let Some(authorities) = &settings.ca_path else {
            return Ok(Self { tls: None });
        };
        let server_name = settings.server_name.clone().map(ServerName::try_from).transpose();
        let config = config(authorities, settings)?;
        Ok(Self {
            tls: Some(ServerTls {
                connector: TlsConnector::from(Arc::new(config)),
                server_name: server_name.map_err(|_| TlsError::ServerName)?,
            }),
        })
    }

    /// Connects, and completes the TLS handshake if TLS is configured. Has no timeout.
    ///
    /// # Errors
    /// The error of the operating system, or of the TLS handshake.
    pub async fn dial(&self, node: SocketAddr) -> io::Result<NodeStream> {
        let stream = TcpStream::connect(node).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Either::Left(stream));
        };
        let name = tls.server_name.clone();
        let name = name.unwrap_or_else(|| ServerName::IpAddress(node.ip().into()));
        let stream = tls.connector.connect(name, stream).await?;
        Ok(Either::Right(Box::new(stream)))
    }
}

fn config(authorities: &Path, settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let roots = PemFile::read(authorities)?.authorities()?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?
        .with_root_certificates(roots);
    match (&settings.certificate_path, &settings.key_path) {
        (Some(certificate), Some(key)) => {
            let chain = PemFile::read(certificate)?.certificates()?;
            let key = PemFile::read(key)?.key()?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Config)
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_a_missing_or_empty_ca_file() {
        let with = |path: &str| {
            Dialer::new(&TlsSettings {
                ca_path: Some(path.into()),
                ..TlsSettings::default()
            })
        };
        let absent = with("/no/such.pem").err().unwrap();
        assert_eq!(absent.to_string(), "failed to read /no/such.pem");
        let empty = with("/dev/null").err().unwrap();
        assert_eq!(empty.to_string(), "/dev/null has no valid PEM certificate");
        assert!(Dialer::new(&TlsSettings::default()).unwrap().tls.is_none());
    }
}
