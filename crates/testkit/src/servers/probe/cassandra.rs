//! Readiness probe of a Cassandra node, with a few frames of the native protocol.
//!
//! The driver's session has no timeout for a node that is down, and hides the cause.

use std::io;
use std::time::Duration;

use cdrs_tokio::compression::Compression;
use cdrs_tokio::frame::message_query::BodyReqQuery;
use cdrs_tokio::frame::message_response::ResponseBody;
use cdrs_tokio::frame::{Envelope, Flags, ParseEnvelopeError, Version};
use cdrs_tokio::query::QueryParams;
use cdrs_tokio::types::{ByName as _, CBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the connection and all its frames. A frozen node accepts connections and never responds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than any response to the frames below.
const MAX_RESPONSE: usize = 1 << 20;

const VERSION: Version = Version::V4;

/// The user and password that Cassandra creates at its first start.
pub(in crate::servers) const DEFAULT_SUPERUSER: &str = "cassandra";

/// Probes one node, logging in as the default superuser where a login is required.
#[derive(Debug, Clone)]
pub(in crate::servers) struct CassandraNodeProbe {
    pub(in crate::servers) address: String,
}

impl CassandraNodeProbe {
    /// Returns how many other nodes this one counts as members, or `None` when it does not serve.
    pub(super) async fn peers(&self) -> Option<i64> {
        timeout(PROBE_TIMEOUT, self.count_peers()).await.ok()?.ok()
    }

    async fn count_peers(&self) -> io::Result<i64> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let mut request = Envelope::new_req_startup(None, VERSION);
        loop {
            let bytes = request.encode_with(Compression::None).map_err(io::Error::other)?;
            stream.write_all(&bytes).await?;
            let response = read_envelope(&mut stream).await?;
            request = match response.response_body().map_err(io::Error::other)? {
                ResponseBody::Authenticate(_) => {
                    let token = format!("\0{DEFAULT_SUPERUSER}\0{DEFAULT_SUPERUSER}");
                    Envelope::new_req_auth_response(CBytes::new(token.into_bytes()), VERSION)
                }
                ResponseBody::Ready | ResponseBody::AuthSuccess(_) => {
                    let query = BodyReqQuery {
                        query: "SELECT count(*) AS peers FROM system.peers".to_owned(),
                        query_params: QueryParams::default(),
                    };
                    Envelope::new_query(query, Flags::empty(), VERSION)
                }
                ResponseBody::Result(result) => {
                    let rows = result.into_rows().unwrap_or_default();
                    let peers = rows.first().and_then(|row| row.by_name("peers").ok().flatten());
                    return peers.ok_or_else(|| io::Error::other("no count of peers"));
                }
                _ => return Err(io::Error::other("unexpected response")),
            };
        }
    }
}

async fn read_envelope(stream: &mut TcpStream) -> io::Result<Envelope> {
    let mut bytes = Vec::new();
    loop {
        match Envelope::from_buffer(&bytes, Compression::None) {
            Ok(parsed) => return Ok(parsed.envelope),
            Err(ParseEnvelopeError::NotEnoughBytes) if bytes.len() <= MAX_RESPONSE => {}
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
