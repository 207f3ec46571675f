//! Probes a node with one handshake. The driver's own connection attempt never ends and hides its errors.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cassandra_protocol::compression::Compression;
use cassandra_protocol::error::Error as ProtocolError;
use cassandra_protocol::frame::message_query::BodyReqQuery;
use cassandra_protocol::frame::message_response::ResponseBody;
use cassandra_protocol::frame::{Envelope, Flags, Version};
use cassandra_protocol::query::QueryParams;
use cassandra_protocol::types::ByName as _;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::cassandra::connection::connector::ConnectionConfig;
use crate::cassandra::connection::transport::NodeStream;
use crate::cassandra::error_class::is_undecided;
use crate::cassandra::wire;

/// Why a node can't be used.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The node did not respond in time.
    #[error("{node}: no response within {} ms", timeout.as_millis())]
    Timeout {
        /// The node.
        node: SocketAddr,
        /// The timeout.
        timeout: Duration,
    },
    /// The node is unreachable, or closed the connection.
    #[error("{node}: {source}")]
    Unreachable {
        /// The node.
        node: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The node does not speak the protocol version of the sessions.
    #[error(
        "{node}: does not speak version 5 of the native protocol, which Cassandra has since 4.0: {reason}"
    )]
    Version {
        /// The node.
        node: SocketAddr,
        /// Its message.
        reason: String,
    },
    /// The node does not respond like a Cassandra node.
    #[error("{node}: {reason}")]
    Rejected {
        /// The node.
        node: SocketAddr,
        /// Its message.
        reason: String,
    },
    /// The node rejects the role or its password, or requires one.
    #[error("{node}: {reason}")]
    Credentials {
        /// The node.
        node: SocketAddr,
        /// Its message.
        reason: String,
    },
}

/// The version of the handshake. Version 5 would need checksummed frames around the authentication. Every node that supports
/// 5 supports 4.
const VERSION: Version = Version::V4;
/// The largest response of a handshake.
const MAX_RESPONSE_SIZE: usize = 64 * 1024;

/// Connects to `node`, checks its protocol version, starts the protocol, authenticates, and returns the node's data centre.
///
/// # Errors
/// [`ProbeError`], with the cause.
pub async fn probe(node: SocketAddr, config: &ConnectionConfig) -> Result<String, ProbeError> {
    let limit = config.timeout;
    timeout(limit, handshake(node, config))
        .await
        .unwrap_or(Err(ProbeError::Timeout { node, timeout: limit }))
}

async fn handshake(node: SocketAddr, config: &ConnectionConfig) -> Result<String, ProbeError> {
    let credentials = &config.credentials;
    let unreachable = |source| ProbeError::Unreachable { node, source };
    let rejected = |reason: &str| ProbeError::Rejected {
        node,
        reason: reason.to_owned(),
    };
    let mut stream = config.dialer.dial(node).await.map_err(unreachable)?;
    // Before the start any version may be used, without the frames of version 5.
    let mut request = Envelope::new_req_options(wire::VERSION);
    loop {
        let bytes = request
            .encode_with(Compression::None)
            .map_err(|error| rejected(&error.to_string()))?;
        stream.write_all(&bytes).await.map_err(unreachable)?;
        // TLS may buffer what was written.
        stream.flush().await.map_err(unreachable)?;
        let response = read_envelope(&mut stream).await.map_err(unreachable)?;
        match response.response_body() {
            Ok(ResponseBody::Supported(_)) => request = Envelope::new_req_startup(None, VERSION),
            Ok(ResponseBody::Ready | ResponseBody::AuthSuccess(_)) => {
                let query = BodyReqQuery {
                    query: "SELECT data_center FROM system.local".to_owned(),
                    query_params: QueryParams::default(),
                };
                request = Envelope::new_query(query, Flags::empty(), VERSION);
            }
            Ok(ResponseBody::Result(result)) => {
                let rows = result.into_rows().unwrap_or_default();
                let name = rows
                    .first()
                    .and_then(|row| row.by_name("data_center").ok().flatten());
                return name.ok_or_else(|| rejected("the node does not report its data centre"));
            }
            Ok(ResponseBody::Authenticate(_)) if credentials.name().is_some() => {
                let response = credentials.create_authenticator().initial_response();
                request = Envelope::new_req_auth_response(response, VERSION);
            }
            Ok(ResponseBody::Authenticate(_)) => {
                let reason =
                    "the node requires authentication: set cassandra.username and cassandra.password"
                        .to_owned();
                return Err(ProbeError::Credentials { node, reason });
            }
            Ok(ResponseBody::Error(body)) => return Err(classify(node, &body.ty, body.message)),
            // The driver's parser returns an error response as an error.
            Err(ProtocolError::Server { body, .. }) => return Err(classify(node, &body.ty, body.message)),
            Ok(_) => return Err(rejected("unexpected response to a handshake")),
            Err(error) => return Err(rejected(&error.to_string())),
        }
    }
}

fn classify(
    node: SocketAddr,
    kind: &cassandra_protocol::frame::message_error::ErrorType,
    reason: String,
) -> ProbeError {
    use cassandra_protocol::frame::message_error::ErrorType;
    if *kind == ErrorType::Protocol && is_of_version(&reason) {
        return ProbeError::Version { node, reason };
    }
    let is_refused = matches!(kind, ErrorType::Authentication | ErrorType::Unauthorized);
    if is_refused && !is_undecided(&reason) {
        ProbeError::Credentials { node, reason }
    } else {
        ProbeError::Rejected { node, reason }
    }
}

/// Whether a node rejects the version of a request. Cassandra, ScyllaDB and others name the version, in words of their own.
fn is_of_version(reason: &str) -> bool {
    reason.to_lowercase().contains("version")
}

async fn read_envelope(stream: &mut NodeStream) -> io::Result<Envelope> {
    let mut bytes = Vec::new();
    loop {
        use cassandra_protocol::frame::ParseEnvelopeError;
        match Envelope::from_buffer(&bytes, Compression::None) {
            Ok(parsed) => return Ok(parsed.envelope),
            Err(ParseEnvelopeError::NotEnoughBytes) if bytes.len() <= MAX_RESPONSE_SIZE => {}
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cassandra_protocol::authenticators::NoneAuthenticatorProvider;
    use tokio::net::TcpListener;

    use super::*;
    use crate::cassandra::connection::transport::Dialer;
    use crate::config::TlsSettings;

    fn config() -> ConnectionConfig {
        ConnectionConfig {
            dialer: Dialer::new(&TlsSettings::default()).unwrap(),
            credentials: Arc::new(NoneAuthenticatorProvider),
            count: 1,
            timeout: Duration::from_millis(200),
        }
    }

    #[tokio::test]
    async fn error_distinguishes_timeout_refusal_and_protocol() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let error = probe(silent, &config()).await.unwrap_err();
        assert!(matches!(error, ProbeError::Timeout { .. }), "{error}");
        drop(listener);
        let error = probe(silent, &config()).await.unwrap_err();
        assert!(matches!(error, ProbeError::Unreachable { .. }), "{error}");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let error = probe(other, &config()).await.unwrap_err();
        assert!(error.to_string().starts_with(&other.to_string()), "{error}");
    }

    /// The reply of Cassandra 3.11, which can't be started beside Java 17.
    #[tokio::test]
    async fn node_without_version_five_is_told_from_others() {
        const REASON: &str =
            "Invalid or unsupported protocol version (5); supported versions are (3/v3, 4/v4, 5/v5-beta)";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let old = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 9];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!((request[0], request[4]), (5, 5), "OPTIONS of version 5");
            let length = u16::try_from(REASON.len()).unwrap().to_be_bytes();
            let body = [&10_u32.to_be_bytes()[..], &length, REASON.as_bytes()].concat();
            let size = u32::try_from(body.len()).unwrap().to_be_bytes();
            // Version 4, no flags, stream 0, ERROR.
            let response = [&[0x84, 0, 0, 0, 0][..], &size, &body].concat();
            stream.write_all(&response).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let error = probe(old, &config()).await.unwrap_err();
        assert!(
            matches!(&error, ProbeError::Version { reason, .. } if reason == REASON),
            "{error:?}"
        );
    }
}
