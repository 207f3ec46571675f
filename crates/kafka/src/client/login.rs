//! Checks the properties of a client's login before librdkafka sees them.

use reqwest::Url;

use crate::client::oauth;
use crate::client::property::{PropertyViolation, canonical};

/// Prefix of the properties of tokens.
const OAUTH_PREFIX: &str = "sasl.oauthbearer.";
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";
const METHOD: &str = "sasl.oauthbearer.method";

/// Returns each property that makes the login impossible.
pub fn violations<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<PropertyViolation> {
    let properties: Vec<_> = properties
        .into_iter()
        .map(|(name, value)| (name, canonical(name), value))
        .collect();
    let get = |wanted: &str| properties.iter().find(|(_, name, _)| name == wanted);
    let Some((mechanism, _, value)) = get("sasl.mechanism") else {
        return Vec::new();
    };
    match *value {
        "AWS_MSK_IAM" => vec![violation(
            mechanism,
            "AWS_MSK_IAM is not supported: use SCRAM-SHA-512 or a client certificate, which MSK accepts too",
        )],
        "OAUTHBEARER" => {
            let required = [
                ENDPOINT,
                "sasl.oauthbearer.client.id",
                "sasl.oauthbearer.client.secret",
            ];
            let missing = required.into_iter().filter(|name| get(name).is_none());
            let missing = missing.map(|name| violation(name, "must be set with sasl.mechanism OAUTHBEARER"));
            let invalid = properties.iter().filter_map(|(given, name, value)| {
                invalid_token_property(name, value).map(|reason| violation(given, reason))
            });
            missing.chain(invalid).collect()
        }
        _ => Vec::new(),
    }
}

fn invalid_token_property(name: &str, value: &str) -> Option<&'static str> {
    match name {
        METHOD if value != "oidc" => Some("must be oidc: unsecured tokens are not supported"),
        ENDPOINT if !is_secure(value) => Some("must be an https URL, or http on a loopback address"),
        name if name.starts_with(OAUTH_PREFIX) && !oauth::PROPERTIES.contains(&name) => {
            Some("is not supported: tokens are fetched with client.id and client.secret")
        }
        _ => None,
    }
}

/// Whether the secret is not sent in the clear over a network.
fn is_secure(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")),
        _ => false,
    })
}

fn violation(name: &str, reason: &str) -> PropertyViolation {
    PropertyViolation {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(properties: &[(&str, &str)]) -> Vec<String> {
        let found = violations(properties.iter().copied());
        found.into_iter().map(|violation| violation.name).collect()
    }

    #[test]
    fn complete_oauth_client_is_valid() {
        let valid = [
            ("sasl_mechanisms", "OAUTHBEARER"),
            ("sasl_oauthbearer_method", "oidc"),
            ("sasl_oauthbearer_client_credentials_client_id", "me"),
            ("sasl_oauthbearer_client_secret", "secret"),
            ("sasl_oauthbearer_scope", "kafka"),
            (
                "sasl_oauthbearer_token_endpoint_url",
                "https://login.example/token",
            ),
        ];
        assert_eq!(names(&valid), Vec::<String>::new());
    }

    #[test]
    fn each_invalid_property_of_a_login_is_named() {
        assert_eq!(names(&[("sasl.mechanism", "AWS_MSK_IAM")]), ["sasl.mechanism"]);
        let invalid = [
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl_oauthbearer_method", "default"),
            ("sasl_oauthbearer_client_id", "me"),
            ("sasl_oauthbearer_grant_type", "jwt"),
            (
                "sasl_oauthbearer_token_endpoint_url",
                "http://login.example/token",
            ),
        ];
        assert_eq!(
            names(&invalid),
            [
                "sasl.oauthbearer.client.secret",
                "sasl_oauthbearer_method",
                "sasl_oauthbearer_grant_type",
                "sasl_oauthbearer_token_endpoint_url",
            ]
        );
        assert_eq!(
            names(&[("sasl.mechanism", "PLAIN"), ("sasl.oauthbearer.method", "x")]),
            Vec::<String>::new()
        );
    }
}
