//! A broker with authentication, authorization and TLS on the clients' listeners.
//!
//! Brokers and the testkit use a listener of their own, without any of them. Tests grant permissions with
//! [`KafkaCluster::allow`](super::KafkaCluster::allow).

use std::path::Path;

use super::options::KafkaOptions;
use crate::token_server::AUDIENCE;

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
const OAUTHBEARER: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;";
const TOKEN_VALIDATOR: &str =
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler";
const AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";

/// The user of [`KafkaOptions::secured`] that logs in with `PLAIN`, and its password. It has no permissions.
pub const PLAIN_USER: (&str, &str) = ("plain", "plain-secret");

impl KafkaOptions {
    /// One node with TLS. Its clients log in with `PLAIN`, `SCRAM-SHA-512` or `OAUTHBEARER` on the first listener, and with
    /// a certificate of `authority` on the second one. `keystore` holds the node's key and certificate as PEM, `token_keys`
    /// the public keys of tokens. A client must log in again before its token expires.
    pub fn secured(keystore: &Path, authority: &Path, token_keys: &Path) -> Self {
        let token_keys = format!("file://{}", token_keys.display());
        let (user, password) = PLAIN_USER;
        let plain = format!("{PLAIN} user_{user}=\"{password}\";");
        let options = Self::with([
            (
                "listener.security.protocol.map",
                "CLIENT:SASL_SSL,CERTIFICATE:SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            ),
            ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512,OAUTHBEARER"),
            ("listener.name.client.plain.sasl.jaas.config", &plain),
            ("listener.name.client.scram-sha-512.sasl.jaas.config", SCRAM),
            ("listener.name.client.oauthbearer.sasl.jaas.config", OAUTHBEARER),
            (
                "listener.name.client.oauthbearer.sasl.server.callback.handler.class",
                TOKEN_VALIDATOR,
            ),
            (
                "listener.name.client.oauthbearer.connections.max.reauth.ms",
                "60000",
            ),
            ("sasl.oauthbearer.jwks.endpoint.url", &token_keys),
            ("sasl.oauthbearer.expected.audience", AUDIENCE),
            ("listener.name.certificate.ssl.client.auth", "required"),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", &keystore.display().to_string()),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", &authority.display().to_string()),
            ("authorizer.class.name", AUTHORIZER),
            ("super.users", "User:ANONYMOUS"),
        ]);
        Self {
            java_properties: vec![format!(
                "org.apache.kafka.sasl.oauthbearer.allowed.urls={token_keys}"
            )],
            second_listener: Some("CERTIFICATE".to_owned()),
            ..options
        }
    }
}
