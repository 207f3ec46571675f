//! A minimal keep-alive HTTP/1.1 connection: it sends prepared bytes, and parses only status and length of a response.
//! No TLS, no chunked bodies.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An open connection without a request in flight.
pub struct Connection {
    stream: TcpStream,
    /// Received bytes, from the start of the response.
    received: Vec<u8>,
}

struct ResponseHead {
    status: u16,
    /// Length of head and body.
    length: usize,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let context = || format!("failed to connect to {address}");
        let stream = TcpStream::connect(address).await.with_context(context)?;
        stream.set_nodelay(true).with_context(context)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(4096),
        })
    }

    /// Sends a request, reads the response and returns its status.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream
            .write_all(request)
            .await
            .context("failed to send a request")?;
        self.received.clear();
        loop {
            let read = self.stream.read_buf(&mut self.received).await;
            if read.context("failed to read a response")? == 0 {
                bail!("the server closed the connection");
            }
            if let Some(head) = parse_head(&self.received)?
                && self.received.len() >= head.length
            {
                return Ok(head.status);
            }
        }
    }
}

/// Builds a `POST` of JSON.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn parse_head(received: &[u8]) -> Result<Option<ResponseHead>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(received).context("failed to parse a response")?;
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
        None => bail!("response {status} has no Content-Length"),
        Some(header) => std::str::from_utf8(header.value)
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .with_context(|| format!("response {status} has an invalid Content-Length"))?,
    };
    Ok(Some(ResponseHead {
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
        let complete = parse_head(response).unwrap().unwrap();
        assert_eq!((complete.status, complete.length), (200, response.len()));
        assert!(parse_head(&response[..20]).unwrap().is_none());
        assert!(parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().is_some());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(parse_head(b"SMTP").is_err());
    }
}
