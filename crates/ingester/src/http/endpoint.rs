//! A configured server address. Connects to nothing.

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An `http` or `https` URL without credentials, which would appear in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Parses a URL.
    ///
    /// # Errors
    /// Returns what is wrong, phrased to follow the setting's key.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "is not a URL")?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return Err("is not an http or https URL");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user or a password");
        }
        Ok(Self(url))
    }

    /// Parses a constant that is known to be valid.
    pub(crate) fn literal(text: &'static str) -> Self {
        Self::parse(text).expect("default addresses are valid")
    }

    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_http_without_credentials() {
        for text in ["", "randomuser.me", "ftp://a/", "http://user:word@a/", "data:,x"] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            Endpoint::parse("http://a:1").unwrap().url().as_str(),
            "http://a:1/"
        );
    }
}
