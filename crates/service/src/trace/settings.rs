//! The `telemetry` section of every service's settings.

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::config::Violations;

/// Where traces are exported, and which.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TelemetrySettings {
    /// The base URL of a collector that receives OTLP over HTTP; `/v1/traces` is appended. Without one, tracing is off.
    pub otlp_endpoint: Option<String>,
    /// Headers of the requests to it, `name=value`, comma-separated.
    pub otlp_headers: Option<Secret>,
    /// The share of traces that are exported, from 0 to 1. A run is one trace.
    pub sample_ratio: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_headers: None,
            sample_ratio: 1.0,
        }
    }
}

impl TelemetrySettings {
    /// Adds a violation for each value that can't be used.
    pub fn validate(&self, violations: &mut Violations) {
        if let Some(endpoint) = &self.otlp_endpoint {
            violations.require(
                traces_url(endpoint).is_some(),
                "telemetry.otlp_endpoint",
                "must be an http or https URL without credentials, query and fragment",
            );
        }
        if let Some(headers) = &self.otlp_headers {
            violations.require(
                parse_headers(headers.expose()).is_some(),
                "telemetry.otlp_headers",
                "must be name=value, comma-separated",
            );
        }
        violations.require(
            (0.0..=1.0).contains(&self.sample_ratio),
            "telemetry.sample_ratio",
            "must be between 0 and 1",
        );
    }

    /// The URL of the traces, if tracing is on.
    pub(super) fn endpoint(&self) -> Option<Url> {
        traces_url(self.otlp_endpoint.as_ref()?)
    }

    /// The headers of requests to the collector.
    pub(super) fn headers(&self) -> HeaderMap {
        let headers = self.otlp_headers.as_ref();
        headers
            .and_then(|headers| parse_headers(headers.expose()))
            .unwrap_or_default()
    }
}

fn traces_url(endpoint: &str) -> Option<Url> {
    let mut url = Url::parse(endpoint).ok()?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_plain || !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Some(url)
}

fn parse_headers(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for header in text.split(',') {
        let (name, value) = header.split_once('=')?;
        let name: HeaderName = name.trim().parse().ok()?;
        let mut value: HeaderValue = value.trim().parse().ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_traces_is_appended_to_the_endpoint() {
        for (endpoint, expected) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("https://a/otlp/", "https://a/otlp/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint).unwrap().as_str(), expected);
        }
        for invalid in [
            "collector:4318",
            "grpc://a:4317",
            "http://u:p@a",
            "http://a?x=1",
            "",
        ] {
            assert_eq!(traces_url(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn headers_are_read_and_not_shown() {
        let headers = parse_headers("api-key=s=1, x-tenant = a").unwrap();
        assert_eq!(
            (&headers["api-key"], &headers["x-tenant"]),
            (&"s=1".parse().unwrap(), &"a".parse().unwrap())
        );
        assert!(!format!("{headers:?}").contains("s=1"));
        for invalid in ["", "a", "a b=1", "a=1,"] {
            assert!(parse_headers(invalid).is_none(), "{invalid}");
        }
    }
}
