//! A minimal HTTP/1.1 keep-alive connection for the load generator.
//!
//! It sends prepared bytes and parses only status and length of the response. It supports neither TLS nor chunked
//! encoding.

use std::net::SocketAddr;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request failed.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The socket failed.
    #[error("failed to exchange data with the server")]
    Socket(#[from] std::io::Error),
    /// The server closed the connection.
    #[error("server closed the connection")]
    Closed,
    /// The response is not HTTP/1.1 or has no length.
    #[error("failed to parse the response: {0}")]
    Response(String),
}

/// An open connection without a request in flight.
pub struct Connection {
    stream: TcpStream,
    /// The received bytes; a response begins at the front.
    read: Vec<u8>,
}

/// The parsed head of a response.
struct Head {
    status: u16,
    /// Length of head and body together.
    length: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The socket's error.
    pub async fn open(address: SocketAddr) -> Result<Self, ConnectionError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(4096),
        })
    }

    /// Sends a request, reads the whole response and returns its status.
    ///
    /// # Errors
    /// [`ConnectionError`]; the connection must not be used afterwards.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16, ConnectionError> {
        self.stream.write_all(request).await?;
        self.read.clear();
        loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(ConnectionError::Closed);
            }
            if let Some(head) = head(&self.read)?
                && self.read.len() >= head.length
            {
                return Ok(head.status);
            }
        }
    }
}

/// A complete `POST` request with JSON.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn head(read: &[u8]) -> Result<Option<Head>, ConnectionError> {
    let wrong = |what: String| ConnectionError::Response(what);
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(read).map_err(|error| wrong(error.to_string()))?;
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let body = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = match body {
        None if status == 204 => 0,
        None => return Err(wrong(format!("status {status} without a length"))),
        Some(header) => std::str::from_utf8(header.value)
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .ok_or_else(|| wrong(format!("status {status} with an invalid length")))?,
    };
    Ok(Some(Head {
        status,
        length: length + body,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_complete_with_its_body() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let whole = head(response).unwrap().unwrap();
        assert_eq!((whole.status, whole.length), (200, response.len()));
        assert!(head(&response[..20]).unwrap().is_none());
        assert!(head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().is_some());
        assert!(head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(head(b"SMTP").is_err());
    }
}
