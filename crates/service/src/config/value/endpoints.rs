//! A setting that is a list of servers.

use std::net::Ipv6Addr;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::list::List;

/// Servers, each `host:port` or `host` for the default `PORT`; an IPv6 address in brackets. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Endpoints<const PORT: u16>(Vec<String>);

impl<const PORT: u16> Endpoints<PORT> {
    /// The default port on this host.
    #[must_use]
    pub fn local() -> Self {
        Self(vec![format!("127.0.0.1:{PORT}")])
    }
}

impl<const PORT: u16> std::ops::Deref for Endpoints<PORT> {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl<'de, const PORT: u16> Deserialize<'de> for Endpoints<PORT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = List::deserialize(deserializer)?;
        if list.is_empty() {
            return Err(de::Error::custom("must name at least one server"));
        }
        let endpoints = list.iter().map(|text| endpoint(text, PORT));
        endpoints
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(de::Error::custom)
    }
}

/// Adds the default port, or says why the text is no endpoint.
fn endpoint(text: &str, default_port: u16) -> Result<String, String> {
    let error = |rule: &str| Err(format!("{text:?} {rule}"));
    if text.contains("://") {
        return error("must be host:port, without a scheme");
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return error("must have the IPv6 address in brackets: [::1]:9042");
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return error("has no closing bracket");
            };
            if address.parse::<Ipv6Addr>().is_err() {
                return error("must have an IPv6 address in the brackets");
            }
            (
                &text[..address.len() + 2],
                after.strip_prefix(':').or((!after.is_empty()).then_some("")),
            )
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !host.starts_with('[') && (host.is_empty() || !host.bytes().all(is_host)) {
        return error("must begin with a host name or an IP address");
    }
    let port = match port {
        None => default_port,
        // `parse` would accept a sign.
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return error("must have a port between 1 and 65535"),
        },
        Some(_) => return error("must have a port between 1 and 65535"),
    };
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_port_is_added() {
        for (text, expected) in [
            ("localhost", "localhost:9042"),
            ("cassandra-0.cassandra.svc", "cassandra-0.cassandra.svc:9042"),
            ("10.0.0.1:19042", "10.0.0.1:19042"),
            ("[::1]", "[::1]:9042"),
            ("[2001:db8::1]:1", "[2001:db8::1]:1"),
            ("my_host:65535", "my_host:65535"),
        ] {
            assert_eq!(endpoint(text, 9042).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn text_that_can_never_be_reached_is_refused() {
        for (text, part) in [
            ("127.0.0.1:99999", "port between 1 and 65535"),
            ("127.0.0.1:0", "port between 1 and 65535"),
            ("127.0.0.1:", "port between 1 and 65535"),
            ("127.0.0.1:+1", "port between 1 and 65535"),
            ("a:b", "port between 1 and 65535"),
            ("http://127.0.0.1:9092", "without a scheme"),
            ("SASL_SSL://a:9092", "without a scheme"),
            ("::1", "in brackets"),
            ("2001:db8::1", "in brackets"),
            ("[::1", "closing bracket"),
            ("[localhost]:1", "IPv6 address in the brackets"),
            ("[::1]9042", "port between 1 and 65535"),
            (":9042", "host name"),
            ("a b:9042", "host name"),
            ("a/b", "host name"),
            ("user@host:1", "host name"),
        ] {
            let error = endpoint(text, 9042).unwrap_err();
            assert!(error.contains(part) && error.contains(text), "{text}: {error}");
        }
    }
}
