//! One keep-alive connection of HTTP/1.1, as cheap as it can be: the request is bytes that are ready, of the answer
//! only the status and the length are looked at. It knows no TLS and no chunks.

use std::net::SocketAddr;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request had no answer.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The socket's own error.
    #[error("speak with the server")]
    Socket(#[from] std::io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The answer is no HTTP/1.1, or does not tell its length.
    #[error("an answer that can't be read: {0}")]
    Answer(String),
}

/// An open connection without a request on its way.
pub struct Connection {
    stream: TcpStream,
    /// What was read; an answer begins at its front.
    read: Vec<u8>,
}

/// What counts of an answer's head.
struct Head {
    status: u16,
    /// Of head and body together.
    length: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The socket's own.
    pub async fn open(address: SocketAddr) -> Result<Self, ConnectionError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(4096),
        })
    }

    /// Sends a whole request and reads the whole answer; returns its status.
    ///
    /// # Errors
    /// [`ConnectionError`]; the connection is of no use afterwards.
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

/// A whole `POST` of JSON.
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
    let wrong = |what: String| ConnectionError::Answer(what);
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(read).map_err(|error| wrong(error.to_string()))?;
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let status = answer.code.unwrap_or_default();
    let body = answer
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = match body {
        None if status == 204 => 0,
        None => return Err(wrong(format!("status {status} without a length"))),
        Some(header) => std::str::from_utf8(header.value)
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .ok_or_else(|| wrong(format!("status {status} with an odd length")))?,
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
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let whole = head(answer).unwrap().unwrap();
        assert_eq!((whole.status, whole.length), (200, answer.len()));
        assert!(head(&answer[..20]).unwrap().is_none());
        assert!(head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().is_some());
        assert!(head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(head(b"SMTP").is_err());
    }
}
