//! Names of librdkafka properties: one name for each property, and which ones a service sets itself.
//!
//! librdkafka accepts a property under several names: with the prefix `topic.`, and under aliases. If two of them are
//! set, the one that is set last wins, in no defined order.

use std::collections::BTreeMap;

/// Other names of properties, each with the name that the services use.
const ALIASES: [(&str, &str); 11] = [
    ("compression.codec", "compression.type"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("message.send.max.retries", "retries"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
    ("sasl.mechanisms", "sasl.mechanism"),
];

/// A property that can't be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyViolation {
    /// The name as given.
    pub name: String,
    /// Why it can't be set.
    pub reason: String,
}

/// The key of the setting, and why it can't be set.
impl From<PropertyViolation> for (String, String) {
    fn from(PropertyViolation { name, reason }: PropertyViolation) -> Self {
        (format!("kafka.properties.{name}"), reason)
    }
}

/// The name of a property. In `name`, `_` stands for `.`, since no property has an underscore in its name.
#[must_use]
pub fn canonical(name: &str) -> String {
    let name = name.replace('_', ".");
    let name = match name.strip_prefix("topic.") {
        Some(stripped) if !is_global(&name) => stripped,
        _ => &name,
    };
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    alias.map_or(name, |(_, name)| name).to_owned()
}

/// Whether librdkafka does not strip `topic.` from a name, because it belongs to a property of the client.
fn is_global(name: &str) -> bool {
    name.starts_with("topic.metadata.") || name == "topic.blacklist"
}

/// Returns each of `names` that is reserved for `service`, and each that is another name of one before it.
pub fn violations<'a>(
    names: impl IntoIterator<Item = &'a String>,
    service: &str,
    reserved: &[&str],
) -> Vec<PropertyViolation> {
    let mut set = BTreeMap::new();
    let mut found = Vec::new();
    for name in names {
        let property = canonical(name);
        let reason = if reserved.contains(&property.as_str()) {
            Some(format!(
                "must not be set: the {service}'s guarantees depend on its own `{property}`"
            ))
        } else {
            set.get(&property).map(|other| {
                format!("is another name of {other}, which is also set; set only one of the two")
            })
        };
        match reason {
            Some(reason) => found.push(PropertyViolation {
                name: name.clone(),
                reason,
            }),
            None => drop(set.insert(property, name)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn every_name_of_a_property_is_canonicalized() {
        for (given, expected) in [
            ("topic_partitioner", "partitioner"),
            ("topic.request.required.acks", "acks"),
            ("topic_message_timeout_ms", "message.timeout.ms"),
            ("topic_delivery_timeout_ms", "message.timeout.ms"),
            ("compression_codec", "compression.type"),
            (
                "topic_metadata_refresh_interval_ms",
                "topic.metadata.refresh.interval.ms",
            ),
            ("socket_timeout_ms", "socket.timeout.ms"),
        ] {
            assert_eq!(canonical(given), expected);
        }
    }

    /// Both names of an alias set the same value in librdkafka.
    #[test]
    fn aliases_are_those_of_librdkafka() {
        // The build has no libcurl. `oauth` implements these properties.
        let supported = |(alias, _): &(&str, &str)| !alias.starts_with("sasl.oauthbearer.");
        for (alias, name) in ALIASES.into_iter().filter(supported) {
            let value = match name {
                "acks" => "1",
                "bootstrap.servers" => "a:1",
                "compression.type" => "lz4",
                name if name.starts_with("sasl.") => "PLAIN",
                _ => "1000",
            };
            let of = |set: &str, read: &str| {
                let mut config = ClientConfig::new();
                config.set(set, value);
                config.create_native_config().unwrap().get(read).unwrap()
            };
            assert_eq!(of(alias, name), of(name, name), "{alias}");
        }
    }

    #[test]
    fn reserved_and_repeated_names_are_violations() {
        let names = [
            "compression.codec",
            "socket_timeout_ms",
            "topic_acks",
            "topic_compression_type",
        ];
        let names = names.map(str::to_owned);
        let found = violations(&names, "publisher", &["acks"]);
        let found: Vec<_> = found
            .iter()
            .map(|violation| (violation.name.as_str(), violation.reason.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (
                    "topic_acks",
                    "must not be set: the publisher's guarantees depend on its own `acks`"
                ),
                (
                    "topic_compression_type",
                    "is another name of compression.codec, which is also set; set only one of the two"
                ),
            ]
        );
    }
}
