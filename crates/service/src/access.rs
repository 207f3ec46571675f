//! Who may call a service: the settings of it, and the rule that a door which others can reach asks who they are.
//! It speaks no HTTP but for reading one header, and it counts and limits nobody.

mod callers;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use callers::{ANONYMOUS, AuthError, Callers, CallersError};

use crate::config::ConfigError;

/// Who may call. Everybody, without a token file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthSettings {
    /// A file with a name and the SHA-256 of a bearer token, in hex, on each line. Several may have one name.
    pub tokens_path: Option<PathBuf>,
}

/// A door, as it is configured.
#[derive(Clone, Copy, Debug)]
pub struct ListenPolicy<'a> {
    /// The key of its address.
    pub key: &'static str,
    /// Its address.
    pub listen: SocketAddr,
    /// Whether something tells who calls.
    pub callers_known: bool,
    /// Whether the operator has said that everybody may call.
    pub allow_anonymous: bool,
    /// The keys to set, for the operator who is told that one of them is missing.
    pub remedy: &'a str,
}

impl ListenPolicy<'_> {
    /// Refuses a door that others can reach while nothing tells who calls, unless the operator has said so.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], which names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.listen.ip().is_loopback() || self.callers_known || self.allow_anonymous {
            return Ok(());
        }
        Err(ConfigError::Invalid {
            key: self.key,
            reason: format!(
                "can be reached by others, and nothing says who may call: set {}",
                self.remedy
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(listen: &str) -> ListenPolicy<'_> {
        ListenPolicy {
            key: "http.listen",
            listen: listen.parse().unwrap(),
            callers_known: false,
            allow_anonymous: false,
            remedy: "auth.tokens_path",
        }
    }

    #[test]
    fn only_this_machine_is_served_without_knowing_who_calls() {
        for here in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80"] {
            assert!(policy(here).validate().is_ok(), "{here}");
        }
        for everywhere in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80"] {
            let error = policy(everywhere).validate().unwrap_err().to_string();
            assert!(
                error.starts_with("`http.listen` can be reached by others"),
                "{error}"
            );
            assert!(error.ends_with("set auth.tokens_path"), "{error}");
        }
    }

    #[test]
    fn known_callers_or_the_operators_word_open_it() {
        let known = ListenPolicy {
            callers_known: true,
            ..policy("0.0.0.0:80")
        };
        let told = ListenPolicy {
            allow_anonymous: true,
            ..policy("0.0.0.0:80")
        };
        assert!(known.validate().is_ok() && told.validate().is_ok());
    }
}
