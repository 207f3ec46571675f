//! Asking a Cassandra node whether it serves, with a handful of CQL frames.
//!
//! Not the driver's session: that one waits without end for a node that is not up, and hides why.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For connecting and all frames of one question; a frozen node accepts connections and never answers.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// Longer than any answer to the frames below.
const MAX_BODY: usize = 1 << 20;

// Operation codes of the native protocol, version 4, section 2.4.
const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const AUTHENTICATE: u8 = 0x03;
const OPTIONS: u8 = 0x05;
const SUPPORTED: u8 = 0x06;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
const AUTH_RESPONSE: u8 = 0x0f;
const AUTH_SUCCESS: u8 = 0x10;

/// The user and password that Cassandra creates at its first start.
pub(super) const DEFAULT_SUPERUSER: &str = "cassandra";

/// Asks one node as a driver would: options, start-up, and the default user's log-in where one is needed.
#[derive(Debug, Clone)]
pub(super) struct CqlProbe {
    pub(super) address: String,
}

impl CqlProbe {
    /// Whether the node takes statements.
    pub(super) async fn is_ready(&self) -> bool {
        matches!(timeout(PROBE_DEADLINE, self.open()).await, Ok(Ok(_)))
    }

    /// How many other nodes this one counts as members; `None` when it does not answer.
    pub(super) async fn peers(&self) -> Option<u64> {
        timeout(PROBE_DEADLINE, self.count_peers()).await.ok()?.ok()
    }

    async fn open(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).await?;
        expect(exchange(&mut stream, OPTIONS, &[]).await?.0, SUPPORTED)?;
        let (operation, _) = exchange(&mut stream, STARTUP, &startup_body()).await?;
        if operation == AUTHENTICATE {
            let token = format!("\0{DEFAULT_SUPERUSER}\0{DEFAULT_SUPERUSER}");
            let (operation, _) = exchange(&mut stream, AUTH_RESPONSE, &long_text(&token)).await?;
            expect(operation, AUTH_SUCCESS)?;
        } else {
            expect(operation, READY)?;
        }
        Ok(stream)
    }

    async fn count_peers(&self) -> io::Result<u64> {
        let mut stream = self.open().await?;
        let mut body = long_text("SELECT count(*) FROM system.peers");
        body.extend_from_slice(&[0, 1, 0]); // consistency ONE, no flags
        let (operation, answer) = exchange(&mut stream, QUERY, &body).await?;
        expect(operation, RESULT)?;
        // One row of one bigint: it is the last thing in the answer.
        let count = answer
            .last_chunk::<8>()
            .ok_or_else(|| unexpected("a short answer"))?;
        Ok(u64::from_be_bytes(*count))
    }
}

async fn exchange(stream: &mut TcpStream, operation: u8, body: &[u8]) -> io::Result<(u8, Vec<u8>)> {
    let mut frame = vec![4, 0, 0, 0, operation];
    frame.extend_from_slice(&length(body));
    frame.extend_from_slice(body);
    stream.write_all(&frame).await?;
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    let [_, _, _, _, answered, size @ ..] = header;
    let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if size > MAX_BODY {
        return Err(unexpected("an answer that is too long"));
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer).await?;
    Ok((answered, answer))
}

/// A string map with one entry.
fn startup_body() -> Vec<u8> {
    let mut body = vec![0, 1];
    for text in ["CQL_VERSION", "3.0.0"] {
        body.extend_from_slice(&length(text.as_bytes())[2..]);
        body.extend_from_slice(text.as_bytes());
    }
    body
}

fn long_text(text: &str) -> Vec<u8> {
    let mut bytes = length(text.as_bytes()).to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The frames sent here are far shorter than 4 GiB.
fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

fn expect(operation: u8, expected: u8) -> io::Result<()> {
    if operation == expected {
        Ok(())
    } else {
        Err(unexpected("another operation than expected"))
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
