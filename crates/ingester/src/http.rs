//! HTTP helpers for both upstreams: client construction, size-limited bodies and `Retry-After`. No status handling, no
//! retries.

pub mod endpoint;

use std::net::IpAddr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use thiserror::Error;

const USER_AGENT: &str = concat!("affluent-ingester/", env!("CARGO_PKG_VERSION"));

/// Creates a client for `url`. It keeps connections alive, follows no redirect (a POST would arrive as a GET) and uses no
/// proxy for loopback addresses.
///
/// # Errors
/// Returns an error when TLS can't be set up.
pub fn client(
    url: &Url,
    connect_timeout: Duration,
    request_timeout: Duration,
) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .connect_timeout(connect_timeout)
        .timeout(request_timeout);
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build()
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
    /// The body exceeds the limit.
    #[error("the body exceeds {limit}")]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
}

/// Reads a body of at most `limit`. Buffers at most `limit` plus one chunk.
///
/// # Errors
/// Returns any [`ReadBodyError`].
pub async fn body(mut response: Response, limit: ByteSize) -> Result<Vec<u8>, ReadBodyError> {
    let max = usize::try_from(limit.as_u64()).unwrap_or(usize::MAX);
    let declared = response.content_length().unwrap_or(0);
    let declared = usize::try_from(declared).unwrap_or(usize::MAX);
    if declared > max {
        return Err(ReadBodyError::TooLarge { limit });
    }
    let mut body = Vec::with_capacity(declared);
    while let Some(chunk) = response.chunk().await.map_err(ReadBodyError::Read)? {
        if body.len() + chunk.len() > max {
            return Err(ReadBodyError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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
