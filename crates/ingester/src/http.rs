//! HTTP helpers for both upstreams: client construction, size-limited bodies, decompression and `Retry-After`. No status
//! handling, no retries.

pub mod endpoint;

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use bytesize::ByteSize;
use flate2::write::GzDecoder;
use jiff::Timestamp;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, Url};
use thiserror::Error;

const USER_AGENT: &str = concat!("affluent-ingester/", env!("CARGO_PKG_VERSION"));

/// Creates a client for a public site at `url`. It uses the proxies of the environment, except for loopback addresses.
///
/// # Errors
/// Returns an error when TLS can't be set up.
pub fn client(
    url: &Url,
    connect_timeout: Duration,
    request_timeout: Duration,
) -> Result<Client, reqwest::Error> {
    let builder = builder(connect_timeout, request_timeout);
    if is_loopback(url) {
        builder.no_proxy().build()
    } else {
        builder.build()
    }
}

/// Creates a client for a server of our own. It uses no proxy, which would get the records and, without TLS, the token.
///
/// # Errors
/// Returns an error when TLS can't be set up.
pub fn direct_client(connect_timeout: Duration, request_timeout: Duration) -> Result<Client, reqwest::Error> {
    builder(connect_timeout, request_timeout).no_proxy().build()
}

/// A client that keeps connections alive and follows no redirect, because a POST would arrive as a GET.
fn builder(connect_timeout: Duration, request_timeout: Duration) -> ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .connect_timeout(connect_timeout)
        .timeout(request_timeout)
}

/// Whether `url` is a loopback address. Resolves no name.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Error of reading a response body.
#[derive(Debug, Error)]
pub enum ReadBodyError {
    /// Timed out, or the connection was lost.
    #[error("failed to read the body")]
    Read(#[source] reqwest::Error),
    /// The body, after decompression, exceeds the limit.
    #[error("the body exceeds {limit}")]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// The content encoding was not requested.
    #[error("the content encoding {0:?} is not supported")]
    Encoding(String),
    /// The body is not what its content encoding says.
    #[error("failed to decompress the body")]
    Decompress(#[source] io::Error),
}

/// The value of `Accept-Encoding` for responses that [`body`] reads.
pub const ACCEPTED_ENCODING: &str = "gzip";

/// A body as far as it was read.
enum BodyBuffer {
    Plain(LimitedBuffer),
    Gzip(Box<GzDecoder<LimitedBuffer>>),
}

/// A buffer that refuses bytes beyond its limit.
struct LimitedBuffer {
    bytes: Vec<u8>,
    max: usize,
    is_exceeded: bool,
}

impl Write for LimitedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.max - self.bytes.len() {
            self.is_exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BodyBuffer {
    fn new(headers: &HeaderMap, max: usize) -> Result<Self, ReadBodyError> {
        let buffer = LimitedBuffer {
            bytes: Vec::new(),
            max,
            is_exceeded: false,
        };
        let encoding = headers
            .get(CONTENT_ENCODING)
            .map(|value| value.as_bytes().trim_ascii());
        match encoding.map(<[u8]>::to_ascii_lowercase).as_deref() {
            None | Some(b"identity" | b"") => Ok(Self::Plain(buffer)),
            Some(b"gzip" | b"x-gzip") => Ok(Self::Gzip(Box::new(GzDecoder::new(buffer)))),
            Some(other) => {
                let name = String::from_utf8_lossy(other).chars().take(64).collect();
                Err(ReadBodyError::Encoding(name))
            }
        }
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(buffer) => buffer.write_all(chunk),
            Self::Gzip(decoder) => decoder.write_all(chunk),
        }
    }

    fn is_exceeded(&self) -> bool {
        match self {
            Self::Plain(buffer) => buffer.is_exceeded,
            Self::Gzip(decoder) => decoder.get_ref().is_exceeded,
        }
    }

    /// Checks that a compressed body is complete.
    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
        }
    }

    fn into_bytes(self) -> io::Result<Vec<u8>> {
        Ok(match self {
            Self::Plain(buffer) => buffer.bytes,
            Self::Gzip(decoder) => decoder.finish()?.bytes,
        })
    }
}

/// Reads and decompresses a body of at most `limit`. Buffers at most `limit` plus one chunk.
///
/// # Errors
/// Returns any [`ReadBodyError`].
pub async fn body(mut response: Response, limit: ByteSize) -> Result<Vec<u8>, ReadBodyError> {
    let max = usize::try_from(limit.as_u64()).unwrap_or(usize::MAX);
    let declared = response.content_length().unwrap_or(0);
    if declared > limit.as_u64() {
        return Err(ReadBodyError::TooLarge { limit });
    }
    let mut body = BodyBuffer::new(response.headers(), max)?;
    let failed = |body: &BodyBuffer, error| {
        if body.is_exceeded() {
            ReadBodyError::TooLarge { limit }
        } else {
            ReadBodyError::Decompress(error)
        }
    };
    while let Some(chunk) = response.chunk().await.map_err(ReadBodyError::Read)? {
        body.push(&chunk).map_err(|error| failed(&body, error))?;
    }
    body.end().map_err(|error| failed(&body, error))?;
    body.into_bytes().map_err(ReadBodyError::Decompress)
}

/// Returns the target of a redirect, shortened and printable.
#[must_use]
pub fn location(headers: &HeaderMap) -> Option<String> {
    let target = headers.get(LOCATION)?.to_str().ok()?;
    Some(target.chars().filter(|c| !c.is_control()).take(200).collect())
}

/// Parses `Retry-After`: seconds, or the time until a date.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Option<Duration> {
        let now = "2026-02-28T23:59:30Z".parse().unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        retry_after(&headers, now)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            parse("Sun, 01 Mar 2026 00:00:00 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(parse("Sat, 28 Feb 2026 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("-1"), None);
        assert_eq!(parse("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(encoding: Option<&str>, bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>, ReadBodyError> {
        let mut response = axum::http::Response::new(bytes);
        if let Some(encoding) = encoding {
            response
                .headers_mut()
                .insert(CONTENT_ENCODING, encoding.parse().unwrap());
        }
        body(response.into(), ByteSize::b(limit)).await
    }

    #[tokio::test]
    async fn body_is_decompressed_and_limited() {
        let plain = b"users ".repeat(1_000);
        for encoding in [None, Some("identity"), Some("gzip"), Some(" GZIP ")] {
            let is_gzip = encoding.is_some_and(|encoding| encoding != "identity");
            let sent = if is_gzip { gzip(&plain) } else { plain.clone() };
            assert_eq!(read(encoding, sent.clone(), 6_000).await.unwrap(), plain);
            let error = read(encoding, sent, 5_999).await.unwrap_err();
            assert!(
                matches!(error, ReadBodyError::TooLarge { .. }),
                "{encoding:?}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn damaged_or_unknown_encoding_is_an_error() {
        let whole = gzip(&b"users ".repeat(1_000));
        for end in 0..whole.len() {
            let error = read(Some("gzip"), whole[..end].to_vec(), 10_000)
                .await
                .unwrap_err();
            assert!(
                matches!(error, ReadBodyError::Decompress(_)),
                "cut at byte {end}: {error}"
            );
        }
        let error = read(Some("br"), whole, 10_000).await.unwrap_err();
        assert_eq!(error.to_string(), "the content encoding \"br\" is not supported");
    }

    #[test]
    fn only_loopback_addresses_are_loopback() {
        for (url, expected) in [
            ("http://127.0.0.1:1/", true),
            ("http://[::1]:1/", true),
            ("http://localhost/", true),
            ("http://publisher:8080/", false),
            ("https://randomuser.me/", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
