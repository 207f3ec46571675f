//! Checks an operator's properties before a start, by librdkafka itself. Connects to nothing.

use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaConfRes, RDKafkaType};

use crate::client::oauth;
use crate::client::property::{PropertyViolation, canonical};

/// A client that a start would create.
pub enum PlannedClient {
    /// A producer.
    Producer(ClientConfig),
    /// A consumer.
    Consumer(ClientConfig),
}

/// Properties that name a file. The first may also name a folder, or `probe` for the system's own.
const FILES: [&str; 5] = [
    AUTHORITIES,
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
];
const AUTHORITIES: &str = "ssl.ca.location";
/// The authorities of the endpoint that issues tokens.
const TOKEN_AUTHORITIES: &str = "https.ca.location";

/// Returns each property that librdkafka refuses, and each that names a file that can't be read.
pub fn violations<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<PropertyViolation> {
    let found = properties.into_iter().filter_map(|(given, value)| {
        Some(PropertyViolation {
            name: given.to_owned(),
            reason: violation(&canonical(given), value)?,
        })
    });
    found.collect()
}

fn violation(name: &str, value: &str) -> Option<String> {
    if name == TOKEN_AUTHORITIES {
        return oauth::check_authorities(Path::new(value)).err();
    }
    // `login` checks these. librdkafka does not get them.
    if oauth::PROPERTIES.contains(&name) {
        return None;
    }
    let mut config = ClientConfig::new();
    config.set(name, value);
    if let Err(error) = config.create_native_config() {
        // Its words may have the value, which is never shown.
        let reason = match error {
            KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => {
                "librdkafka has no such property"
            }
            _ => "librdkafka refuses its value",
        };
        return Some(reason.to_owned());
    }
    let path = Path::new(value);
    let is_other_source = name == AUTHORITIES && (value == "probe" || path.is_dir());
    if !FILES.contains(&name) || is_other_source {
        return None;
    }
    let error = std::fs::read(path).err()?;
    Some(format!("failed to read {}: {error}", path.display()))
}

/// Creates the clients without the addresses of brokers: librdkafka reads the certificates and keys, and compares the
/// properties with each other. Returns what it says of the first that it refuses.
pub fn refusal(clients: impl IntoIterator<Item = PlannedClient>) -> Option<String> {
    clients
        .into_iter()
        .find_map(|client| create(client).err())
        .map(words)
}

fn create(client: PlannedClient) -> Result<(), KafkaError> {
    let (kind, mut config) = match client {
        PlannedClient::Producer(config) => (RDKafkaType::RD_KAFKA_PRODUCER, config),
        PlannedClient::Consumer(config) => (RDKafkaType::RD_KAFKA_CONSUMER, config),
    };
    config.remove("bootstrap.servers");
    let native = config.create_native_config()?;
    Client::new(&config, native, kind, DefaultClientContext).map(drop)
}

/// librdkafka's own words about an error.
fn words(error: KafkaError) -> String {
    let words = match error {
        KafkaError::ClientConfig(_, words, _, _) | KafkaError::ClientCreation(words) => words,
        other => other.to_string(),
    };
    words.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer(properties: &[(&str, &str)]) -> PlannedClient {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1");
        for (name, value) in properties {
            config.set(*name, *value);
        }
        PlannedClient::Producer(config)
    }

    #[test]
    fn each_refused_property_and_unreadable_file_is_named() {
        let found = violations([
            ("no_such_key", "1"),
            ("ssl_ca_location", "/nowhere/ca.pem"),
            ("security.protocol", "hunter2"),
            ("https_ca_location", "/nowhere/tokens.pem"),
            ("ssl.key.location", "/proc/self/exe"),
            ("sasl_oauthbearer_client_id", "me"),
        ]);
        let texts: Vec<_> = found
            .iter()
            .map(|it| format!("{}: {}", it.name, it.reason))
            .collect();
        let expected = [
            "no_such_key: librdkafka has no such property",
            "ssl_ca_location: failed to read /nowhere/ca.pem: No such file or directory (os error 2)",
            "security.protocol: librdkafka refuses its value",
            "https_ca_location: failed to read /nowhere/tokens.pem: No such file or directory (os error 2)",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn clients_are_created_without_brokers() {
        assert_eq!(refusal([producer(&[])]), None);
        let unknown = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIM"),
        ];
        let words = refusal([producer(&[]), producer(&unknown)]).unwrap();
        assert!(words.contains("SASL mechanism"), "{words}");
        let no_certificate = [
            ("security.protocol", "ssl"),
            ("ssl.ca.location", "/proc/self/exe"),
        ];
        let words = refusal([producer(&no_certificate)]).unwrap();
        assert!(words.contains("ssl.ca.location"), "{words}");
    }
}
