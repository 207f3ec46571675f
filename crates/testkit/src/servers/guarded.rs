//! A Kafka that asks who comes: its clients need a password, and each but `admin` the rights to what it does. Brokers and
//! the testkit itself use listeners of their own, without one. Rights are given with Kafka's own tools.

use std::fmt::Write as _;
use std::path::Path;

use super::KafkaOptions;

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required";

impl KafkaOptions {
    /// One node that knows these users, each with a password (SASL/PLAIN). The one called `admin` may do everything.
    pub fn guarded(users: &[(&str, &str)]) -> Self {
        let mut logins = PLAIN.to_owned();
        for (user, password) in users {
            write!(logins, " user_{user}=\"{password}\"").expect("a string takes every text");
        }
        logins.push(';');
        Self::with([
            (
                "listener.security.protocol.map",
                "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            ),
            ("sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.client.plain.sasl.jaas.config", &logins),
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            ("super.users", "User:ANONYMOUS;User:admin"),
        ])
    }

    /// One node whose clients come over TLS and log in by SCRAM-SHA-512. `keystore` holds its key and its certificate, PEM.
    /// Users and rights are given with Kafka's own tools, on the internal listener.
    pub fn guarded_over_tls(keystore: &Path) -> Self {
        let keystore = keystore.display().to_string();
        Self::with([
            (
                "listener.security.protocol.map",
                "CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            ),
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512"),
            (
                "listener.name.client.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            ),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", &keystore),
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            ("super.users", "User:ANONYMOUS"),
        ])
    }
}
