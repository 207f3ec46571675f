//! The librdkafka configuration that all clients share.

pub mod check;
pub mod login;
pub mod oauth;
pub mod property;

use std::sync::Arc;

use rdkafka::ClientConfig;

use self::oauth::TokenSource;

/// How a client connects to the cluster. Must not be logged: properties may be secrets.
#[derive(Clone)]
pub struct Connection {
    client_id: &'static str,
    brokers: String,
    properties: Vec<(String, String)>,
    tokens: Option<Arc<TokenSource>>,
}

impl Connection {
    /// Connects to `brokers`, each `host:port`. `properties` override everything but the brokers and the automatic creation
    /// of topics. Each of their names is replaced by the [canonical](property::canonical) one.
    pub fn new(
        client_id: &'static str,
        brokers: &[String],
        properties: impl IntoIterator<Item = (impl AsRef<str>, impl Into<String>)>,
    ) -> Self {
        let properties: Vec<_> = properties
            .into_iter()
            .map(|(name, value)| (property::canonical(name.as_ref()), value.into()))
            .collect();
        Self {
            client_id,
            brokers: brokers.join(","),
            tokens: TokenSource::new(&properties).map(Arc::new),
            properties,
        }
    }

    /// The source of the client's tokens, with the mechanism `OAUTHBEARER`.
    #[must_use]
    pub fn tokens(&self) -> Option<Arc<TokenSource>> {
        self.tokens.clone()
    }

    /// The bootstrap servers, in librdkafka's format.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The client id, unless a property replaces it.
    #[must_use]
    pub fn default_client_id(&self) -> Option<&'static str> {
        let is_replaced = self.properties.iter().any(|(name, _)| name == "client.id");
        (!is_replaced).then_some(self.client_id)
    }

    /// The configuration of brokers and timeouts, with the operator's properties.
    #[must_use]
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", self.client_id)
            .set("socket.keepalive.enable", "true")
            // A silent address is named within 5 s.
            .set("socket.connection.setup.timeout.ms", "3000")
            // Reconnects at once to a broker that restarts; the default backs off to ten seconds.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // librdkafka's default of five minutes hides new partitions and new leaders.
            .set("topic.metadata.refresh.interval.ms", "10000");
        if cfg!(feature = "static") {
            // An OpenSSL that is compiled in knows no path of the system's authorities; librdkafka looks for them.
            config.set("ssl.ca.location", "probe");
        }
        let implemented_here = |name: &str| self.tokens.is_some() && oauth::PROPERTIES.contains(&name);
        for (name, value) in &self.properties {
            if !implemented_here(name) {
                config.set(name, value);
            }
        }
        config
            .set("bootstrap.servers", &self.brokers)
            // A broker that creates topics on request gives them its own defaults. Only `TopicSpec` creates topics. A producer
            // of librdkafka would request it otherwise.
            .set("allow.auto.create.topics", "false");
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_override_defaults_but_not_brokers() {
        let brokers = ["a:1".to_owned(), "b:2".to_owned()];
        let properties = [
            ("socket_timeout_ms", "2000"),
            ("bootstrap.servers", "c:3"),
            ("allow.auto.create.topics", "true"),
            ("metadata_broker_list", "d:4"),
        ];
        let config = Connection::new("test", &brokers, properties).config();
        assert_eq!(config.get("socket.timeout.ms"), Some("2000"));
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(config.get("allow.auto.create.topics"), Some("false"));
        assert_eq!(config.get("client.id"), Some("test"));
    }

    /// librdkafka would refuse them without libcurl.
    #[test]
    fn properties_of_tokens_are_not_passed_on() {
        let properties = [
            ("security_protocol", "sasl_ssl"),
            ("sasl_mechanisms", "OAUTHBEARER"),
            ("sasl_oauthbearer_method", "oidc"),
            ("sasl_oauthbearer_client_credentials_client_id", "me"),
            ("sasl_oauthbearer_client_secret", "hunter2"),
            ("sasl_oauthbearer_token_endpoint_url", "https://a/token"),
            ("https_ca_location", "/ca.pem"),
        ];
        let connection = Connection::new("test", &["a:1".to_owned()], properties);
        assert!(connection.tokens().is_some());
        let native = connection.config().create_native_config().unwrap();
        assert_eq!(native.get("sasl.mechanism").unwrap(), "OAUTHBEARER");
    }

    /// Two names of one property would be set in the order of a hash map.
    #[test]
    fn property_is_set_under_one_name_only() {
        let properties = [("topic_compression_codec", "zstd"), ("topic.acks", "1")];
        let mut config = Connection::new("test", &["a:1".to_owned()], properties).config();
        config.set("acks", "all").set("compression.type", "lz4");
        for other in ["topic.compression.codec", "topic.acks", "metadata.broker.list"] {
            assert_eq!(config.get(other), None);
        }
        let native = config.create_native_config().unwrap();
        assert_eq!(native.get("acks").unwrap(), "-1");
        assert_eq!(native.get("compression.type").unwrap(), "lz4");
    }
}
