//! One handshake with one node, by ourselves: the driver's own connecting never ends and never says why.

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

use super::connector::Connections;
use super::line::Line;

/// Why a node can't be used.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No answer within the deadline.
    #[error("{node}: no answer within {} ms", deadline.as_millis())]
    Silent {
        /// The node.
        node: SocketAddr,
        /// The deadline.
        deadline: Duration,
    },
    /// It can't be reached, or hangs up.
    #[error("{node}: {source}")]
    Unreachable {
        /// The node.
        node: SocketAddr,
        /// The operating system's answer.
        source: io::Error,
    },
    /// It answers, but not as a Cassandra node of this protocol version does.
    #[error("{node}: {reason}")]
    Refused {
        /// The node.
        node: SocketAddr,
        /// Its words.
        reason: String,
    },
    /// It refuses the role or its password, or wants one.
    #[error("{node}: {reason}")]
    Credentials {
        /// The node.
        node: SocketAddr,
        /// Its words.
        reason: String,
    },
}

/// Version 5 would put its checksummed frames around the log-in; every node that speaks 5 speaks 4 too.
const VERSION: Version = Version::V4;
/// The longest answer a handshake has.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Connects to `node`, starts the native protocol, logs in, asks for the node's data centre, and hangs up.
///
/// # Errors
/// [`ProbeError`], with the cause.
pub async fn probe(node: SocketAddr, connections: &Connections) -> Result<String, ProbeError> {
    let deadline = connections.deadline;
    timeout(deadline, handshake(node, connections))
        .await
        .unwrap_or(Err(ProbeError::Silent { node, deadline }))
}

async fn handshake(node: SocketAddr, connections: &Connections) -> Result<String, ProbeError> {
    let credentials = &connections.credentials;
    let unreachable = |source| ProbeError::Unreachable { node, source };
    let refused = |reason: &str| ProbeError::Refused {
        node,
        reason: reason.to_owned(),
    };
    let mut stream = connections.dialer.dial(node).await.map_err(unreachable)?;
    let mut request = Envelope::new_req_startup(None, VERSION);
    loop {
        let bytes = request
            .encode_with(Compression::None)
            .map_err(|error| refused(&error.to_string()))?;
        stream.write_all(&bytes).await.map_err(unreachable)?;
        // What was written may still wait inside TLS.
        stream.flush().await.map_err(unreachable)?;
        let answer = read_envelope(&mut stream).await.map_err(unreachable)?;
        match answer.response_body() {
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
                return name.ok_or_else(|| refused("it does not tell its data centre"));
            }
            Ok(ResponseBody::Authenticate(_)) if credentials.name().is_some() => {
                let response = credentials.create_authenticator().initial_response();
                request = Envelope::new_req_auth_response(response, VERSION);
            }
            Ok(ResponseBody::Authenticate(_)) => {
                let reason = "it wants a user name and a password, and none are configured".to_owned();
                return Err(ProbeError::Credentials { node, reason });
            }
            Ok(ResponseBody::Error(body)) => return Err(sort(node, &body.ty, body.message)),
            // The driver's parser gives an error answer as an error.
            Err(ProtocolError::Server { body, .. }) => return Err(sort(node, &body.ty, body.message)),
            Ok(_) => return Err(refused("an answer that does not belong to a handshake")),
            Err(error) => return Err(refused(&error.to_string())),
        }
    }
}

fn sort(
    node: SocketAddr,
    kind: &cassandra_protocol::frame::message_error::ErrorType,
    reason: String,
) -> ProbeError {
    use cassandra_protocol::frame::message_error::ErrorType;
    // A node that can't read its own roles says so with the code of a wrong password.
    let wrong = *kind == ErrorType::Authentication && !reason.contains("Unable to perform");
    if wrong || *kind == ErrorType::Unauthorized {
        ProbeError::Credentials { node, reason }
    } else {
        ProbeError::Refused { node, reason }
    }
}

async fn read_envelope(stream: &mut Line) -> io::Result<Envelope> {
    let mut bytes = Vec::new();
    loop {
        use cassandra_protocol::frame::ParseEnvelopeError;
        match Envelope::from_buffer(&bytes, Compression::None) {
            Ok(parsed) => return Ok(parsed.envelope),
            Err(ParseEnvelopeError::NotEnoughBytes) if bytes.len() <= LONGEST_ANSWER => {}
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
    use crate::cassandra::line::Dialer;
    use crate::settings::TlsSettings;

    fn connections() -> Connections {
        Connections {
            dialer: Dialer::new(&TlsSettings::default()).unwrap(),
            credentials: Arc::new(NoneAuthenticatorProvider),
            count: 1,
            deadline: Duration::from_millis(200),
        }
    }

    #[tokio::test]
    async fn a_closed_port_a_silent_one_and_another_protocol_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let error = probe(silent, &connections()).await.unwrap_err();
        assert!(matches!(error, ProbeError::Silent { .. }), "{error}");
        drop(listener);
        let error = probe(silent, &connections()).await.unwrap_err();
        assert!(matches!(error, ProbeError::Unreachable { .. }), "{error}");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let error = probe(other, &connections()).await.unwrap_err();
        assert!(error.to_string().starts_with(&other.to_string()), "{error}");
    }
}
