//! A minimal keep-alive HTTP/1.1 connection: it sends prepared bytes, and parses only status and length of a response.
//! With TLS if the server has it. No chunked bodies.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name in the server's certificate.
pub const SERVER_NAME: &str = "localhost";

/// A server and how to connect to it.
#[derive(Clone)]
pub struct TargetServer {
    /// Its address.
    pub address: SocketAddr,
    /// The client's side of TLS, if the server has it.
    pub tls: Option<TlsConnector>,
}

impl TargetServer {
    /// A server without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// A server with this certificate, for [`SERVER_NAME`].
    pub fn secured(
        address: SocketAddr,
        certificate: rustls::pki_types::CertificateDer<'static>,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate)
            .context("failed to trust the certificate")?;
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            address,
            tls: Some(TlsConnector::from(Arc::new(config))),
        })
    }
}

enum TransportStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An open connection without a request in flight.
pub struct LoadConnection {
    stream: TransportStream,
    /// Received bytes, from the start of the response.
    received: Vec<u8>,
}

struct ResponseHead {
    status: u16,
    /// Length of head and body.
    length: usize,
}

impl LoadConnection {
    /// Connects.
    pub async fn open(server: &TargetServer) -> Result<Self> {
        let context = || format!("failed to connect to {}", server.address);
        let stream = TcpStream::connect(server.address).await.with_context(context)?;
        stream.set_nodelay(true).with_context(context)?;
        let stream = match &server.tls {
            None => TransportStream::Plain(stream),
            Some(tls) => {
                let name = ServerName::try_from(SERVER_NAME).with_context(context)?;
                TransportStream::Tls(Box::new(tls.connect(name, stream).await.with_context(context)?))
            }
        };
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
        self.stream.flush().await.context("failed to send a request")?;
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

impl AsyncRead for TransportStream {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(task, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(task, buffer),
        }
    }
}

impl AsyncWrite for TransportStream {
    fn poll_write(self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(task, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(task, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(task),
            Self::Tls(stream) => Pin::new(stream).poll_flush(task),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(task),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(task),
        }
    }
}

/// Builds a `POST` of JSON, with a bearer token if there is one.
pub fn post(path: &str, token: Option<&str>, body: &[u8]) -> Vec<u8> {
    let authorization = token.map_or(String::new(), |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
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
