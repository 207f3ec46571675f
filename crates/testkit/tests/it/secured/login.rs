//! How a service logs in to Kafka, as its settings.

use testkit::servers::PLAIN_USER;
use testkit::service::ServiceOptions;
use testkit::token_server::CLIENT_SECRET;

use super::env::SecuredEnv;

/// Password of each user of SCRAM-SHA-512.
pub(crate) const SECRET: &str = "scram-secret";

/// A mechanism, and what it needs.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    Scram {
        user: String,
        password: String,
    },
    Plain,
    /// Tokens of this endpoint, whose certificate is of the environment's authority.
    Token {
        client: String,
        endpoint: String,
    },
    /// A client certificate whose subject is `CN=name`.
    Certificate {
        name: String,
    },
}

impl Login {
    /// A user of SCRAM-SHA-512 with [`SECRET`].
    pub(crate) fn scram(user: &str) -> Self {
        Self::Scram {
            user: user.to_owned(),
            password: SECRET.to_owned(),
        }
    }

    /// The name in ACLs.
    pub(crate) fn principal(&self) -> String {
        match self {
            Self::Scram { user, .. } => user.clone(),
            Self::Plain => PLAIN_USER.0.to_owned(),
            Self::Token { client, .. } => client.clone(),
            Self::Certificate { name } => format!("CN={name}"),
        }
    }

    /// Adds the address and the properties of the login to a service's options.
    pub(crate) fn apply(&self, env: &SecuredEnv, options: ServiceOptions) -> ServiceOptions {
        let property = |options: ServiceOptions, name: &str, value: &str| {
            options.set(&format!("kafka.properties.{name}"), value)
        };
        let ca = env.authority.file().display().to_string();
        let options = property(options, "ssl_ca_location", &ca);
        let sasl = |mechanism, user: &str, password: &str| {
            let options = property(options.clone(), "security_protocol", "sasl_ssl");
            let options = property(options, "sasl_mechanisms", mechanism);
            let options = property(options, "sasl_username", user);
            property(options, "sasl_password", password).set("kafka.brokers", env.kafka.bootstrap())
        };
        match self {
            Self::Scram { user, password } => sasl("SCRAM-SHA-512", user, password),
            Self::Plain => sasl("PLAIN", PLAIN_USER.0, PLAIN_USER.1),
            Self::Token { client, endpoint } => {
                let options = property(options, "security_protocol", "sasl_ssl");
                let options = property(options, "sasl_mechanisms", "OAUTHBEARER");
                let options = property(options, "sasl_oauthbearer_method", "oidc");
                let options = property(options, "https_ca_location", &ca);
                let options = property(options, "sasl_oauthbearer_client_id", client);
                let options = property(options, "sasl_oauthbearer_client_secret", CLIENT_SECRET);
                property(options, "sasl_oauthbearer_token_endpoint_url", endpoint)
                    .set("kafka.brokers", env.kafka.bootstrap())
            }
            Self::Certificate { name } => {
                let (certificate, key) = env.authority.issue_once(name, &[name]);
                let options = property(options, "security_protocol", "ssl");
                let options = property(
                    options,
                    "ssl_certificate_location",
                    &certificate.display().to_string(),
                );
                property(options, "ssl_key_location", &key.display().to_string())
                    .set("kafka.brokers", env.kafka.second_bootstrap())
            }
        }
    }
}
