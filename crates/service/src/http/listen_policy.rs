//! The rule that a server which is reachable from other machines must authenticate its callers.

use std::net::SocketAddr;

use crate::config::Violations;

/// A listen address and whether its callers are authenticated, as configured.
#[derive(Clone, Copy, Debug)]
pub struct ListenPolicy<'a> {
    /// The key of the address.
    pub key: &'static str,
    /// The address.
    pub listen: SocketAddr,
    /// Whether callers are authenticated, by tokens or certificates.
    pub callers_known: bool,
    /// Whether the operator allows callers that are not authenticated.
    pub allow_anonymous: bool,
    /// The keys that authenticate callers or allow anonymous ones, for the error message.
    pub remedy: &'a str,
}

impl ListenPolicy<'_> {
    /// Adds a violation if the address is not loopback and anonymous callers are neither prevented nor allowed.
    pub fn validate(&self, violations: &mut Violations) {
        let is_safe = self.listen.ip().is_loopback() || self.callers_known || self.allow_anonymous;
        let reason = format!(
            "is reachable from other machines without authentication: set {}",
            self.remedy
        );
        violations.require(is_safe, self.key, &reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Violation;

    fn policy(listen: &str) -> ListenPolicy<'_> {
        ListenPolicy {
            key: "http.listen",
            listen: listen.parse().unwrap(),
            callers_known: false,
            allow_anonymous: false,
            remedy: "auth.tokens_path",
        }
    }

    fn violations(policy: ListenPolicy<'_>) -> Vec<Violation> {
        let mut violations = Violations::default();
        policy.validate(&mut violations);
        violations.iter().cloned().collect()
    }

    #[test]
    fn anonymous_callers_are_allowed_on_loopback_only() {
        for loopback in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80"] {
            assert_eq!(violations(policy(loopback)), [], "{loopback}");
        }
        for reachable in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80"] {
            let [Violation { key, reason }] = &violations(policy(reachable))[..] else {
                panic!("{reachable} breaks one rule")
            };
            assert_eq!(key, "http.listen");
            assert!(reason.starts_with("is reachable from other machines"), "{reason}");
            assert!(reason.ends_with("set auth.tokens_path"), "{reason}");
        }
    }

    #[test]
    fn authentication_or_allow_anonymous_permits_any_address() {
        let known = ListenPolicy {
            callers_known: true,
            ..policy("0.0.0.0:80")
        };
        let allowed = ListenPolicy {
            allow_anonymous: true,
            ..policy("0.0.0.0:80")
        };
        assert_eq!((violations(known), violations(allowed)), (vec![], vec![]));
    }
}
