//! Brokers with authentication and authorization on the clients' listener.
//!
//! Brokers and the testkit use listeners of their own, without either. Tests grant permissions with Kafka's own tools.

use std::path::Path;

use super::options::KafkaOptions;

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
const AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";

/// Users and passwords of [`KafkaOptions::sasl_plain`].
const USERS: [(&str, &str); 3] = [
    ("admin", "admin-secret"),
    ("writer", "right-secret"),
    ("reader", "no-secret"),
];

impl KafkaOptions {
    /// One node with SASL/PLAIN. The user `admin` (`admin-secret`) has all permissions, `writer` (`right-secret`) and `reader`
    /// (`no-secret`) have none.
    pub fn sasl_plain() -> Self {
        let users: String = USERS
            .iter()
            .map(|(user, password)| format!(" user_{user}=\"{password}\""))
            .collect();
        Self::with([
            (
                "listener.security.protocol.map",
                "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            ),
            ("sasl.enabled.mechanisms", "PLAIN"),
            (
                "listener.name.client.plain.sasl.jaas.config",
                &format!("{PLAIN}{users};"),
            ),
            ("authorizer.class.name", AUTHORIZER),
            ("super.users", "User:ANONYMOUS;User:admin"),
        ])
    }

    /// One node with TLS and SCRAM-SHA-512 for clients. `keystore` holds its key and certificate as PEM.
    pub fn scram_over_tls(keystore: &Path) -> Self {
        Self::with([
            (
                "listener.security.protocol.map",
                "CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            ),
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512"),
            ("listener.name.client.scram-sha-512.sasl.jaas.config", SCRAM),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", &keystore.display().to_string()),
            ("authorizer.class.name", AUTHORIZER),
            ("super.users", "User:ANONYMOUS"),
        ])
    }
}
