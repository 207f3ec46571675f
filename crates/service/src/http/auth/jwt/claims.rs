//! What the claims of a JWT must be, and the caller that they describe.
//!
//! Pure: the caller of these functions knows the time and has verified the signature.

use serde_json::{Map, Value};

use super::error::JwtError;
use super::settings::JwtSettings;
use crate::config::List;
use crate::http::auth::identity::Identity;
use crate::http::auth::role::Roles;

/// How far the clocks of issuer and service may differ, in seconds.
const LEEWAY: i64 = 30;

/// The longest `sub`, in bytes. It names the caller in the access log and in memory.
const MAX_SUBJECT: usize = 255;

/// The claims that a token must have.
pub(super) struct ExpectedClaims {
    issuer: Option<String>,
    audience: List,
    roles_claim: String,
}

/// A caller, and when its token expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) identity: Identity,
    /// In seconds since 1970.
    expires_at: i64,
}

impl Verified {
    /// Whether the token has expired at `now`, in seconds since 1970.
    pub(super) fn is_expired(&self, now: i64) -> bool {
        self.expires_at.saturating_add(LEEWAY) <= now
    }
}

impl ExpectedClaims {
    pub(super) fn new(settings: &JwtSettings) -> Self {
        Self {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            roles_claim: settings.roles_claim.clone(),
        }
    }

    /// Checks the claims at `now`, in seconds since 1970.
    pub(super) fn check(&self, claims: &Map<String, Value>, now: i64) -> Result<Verified, JwtError> {
        let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| {
            (1..=MAX_SUBJECT).contains(&subject.len()) && !subject.chars().any(char::is_control)
        });
        let verified = Verified {
            identity: Identity {
                name: subject.ok_or(JwtError::Claims)?.into(),
                roles: roles(claims, &self.roles_claim),
            },
            expires_at: seconds(claims.get("exp").ok_or(JwtError::Claims)?)?,
        };
        if verified.is_expired(now) {
            return Err(JwtError::Expired);
        }
        if let Some(not_before) = claims.get("nbf")
            && seconds(not_before)? > now.saturating_add(LEEWAY)
        {
            return Err(JwtError::NotYetValid);
        }
        let is_issuer = |issuer: &String| claims.get("iss").and_then(Value::as_str) == Some(issuer);
        if !self.issuer.as_ref().is_none_or(is_issuer) {
            return Err(JwtError::Issuer);
        }
        if !self.is_audience(claims.get("aud")) {
            return Err(JwtError::Audience);
        }
        Ok(verified)
    }

    fn is_audience(&self, given: Option<&Value>) -> bool {
        let is_expected = |text: &str| self.audience.iter().any(|audience| audience == text);
        match given {
            Some(Value::String(text)) => is_expected(text),
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).any(is_expected),
            _ => false,
        }
    }
}

/// A NumericDate (RFC 7519), which may have a fraction.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast saturates, and the fraction does not matter"
)]
fn seconds(date: &Value) -> Result<i64, JwtError> {
    date.as_f64()
        .map(|seconds| seconds as i64)
        .ok_or(JwtError::Claims)
}

/// The known roles of a claim, which is a list or a text with spaces. Its name may be a path such as `realm_access.roles`.
fn roles(claims: &Map<String, Value>, name: &str) -> Roles {
    let by_path = || {
        let mut steps = name.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    };
    match claims.get(name).or_else(by_path) {
        Some(Value::String(text)) => Roles::known(text.split_whitespace()),
        Some(Value::Array(several)) => Roles::known(several.iter().filter_map(Value::as_str)),
        _ => Roles::known([]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::auth::Role;

    const NOW: i64 = 1_700_000_000;

    fn check_with(roles_claim: &str, changes: Value) -> Result<Verified, JwtError> {
        let expected = ExpectedClaims::new(&JwtSettings {
            issuer: Some("https://issuer.example".to_owned()),
            audience: List::of(["publisher", "pipeline"]),
            roles_claim: roles_claim.to_owned(),
            ..JwtSettings::default()
        });
        let mut claims = json!({
            "iss": "https://issuer.example", "aud": "publisher", "sub": "ingester", "exp": NOW + 60, "roles": ["write"],
        });
        let claims = claims.as_object_mut().unwrap();
        let Value::Object(changes) = changes else {
            panic!("the changes are an object")
        };
        for (name, value) in changes {
            if value.is_null() {
                claims.remove(&name);
            } else {
                claims.insert(name, value);
            }
        }
        expected.check(claims, NOW)
    }

    fn check(changes: Value) -> Result<Verified, JwtError> {
        check_with("roles", changes)
    }

    #[test]
    fn caller_is_the_subject_with_its_roles() {
        let identity = check(json!({})).unwrap().identity;
        assert_eq!(&*identity.name, "ingester");
        assert!(identity.roles.contains(Role::Write) && !identity.roles.contains(Role::Erase));
        for valid in [
            json!({"aud": ["other", "pipeline"]}),
            json!({"nbf": NOW + 30}),
            json!({"exp": NOW - 29}),
            json!({"exp": 1_700_000_000.5}),
        ] {
            assert!(check(valid.clone()).is_ok(), "{valid}");
        }
    }

    #[test]
    fn wrong_claims_are_refused() {
        for (changes, error) in [
            (json!({"exp": NOW - 30}), JwtError::Expired),
            (json!({"exp": -1e300}), JwtError::Expired),
            (json!({"exp": null}), JwtError::Claims),
            (json!({"exp": "2100-01-01"}), JwtError::Claims),
            (json!({"nbf": NOW + 31}), JwtError::NotYetValid),
            (json!({"nbf": "x"}), JwtError::Claims),
            (json!({"iss": "https://other.example"}), JwtError::Issuer),
            (json!({"iss": null}), JwtError::Issuer),
            (json!({"aud": "other"}), JwtError::Audience),
            (json!({"aud": ["other"]}), JwtError::Audience),
            (json!({"aud": null}), JwtError::Audience),
            (json!({"aud": {"publisher": true}}), JwtError::Audience),
            (json!({"sub": null}), JwtError::Claims),
            (json!({"sub": ""}), JwtError::Claims),
            (json!({"sub": "a\nb"}), JwtError::Claims),
            (json!({"sub": "x".repeat(256)}), JwtError::Claims),
        ] {
            assert_eq!(check(changes.clone()).unwrap_err(), error, "{changes}");
        }
    }

    #[test]
    fn roles_may_be_a_list_a_text_or_nested() {
        let roles = |claim: &str, changes| check_with(claim, changes).unwrap().identity.roles;
        let both = Roles::known(["write", "erase"]);
        assert_eq!(roles("scope", json!({"scope": "openid write erase"})), both);
        let nested = json!({"realm_access": {"roles": ["write", "admin", "erase"]}});
        assert_eq!(roles("realm_access.roles", nested), both);
        let url = json!({"https://example.com/roles": ["erase", "write"]});
        assert_eq!(roles("https://example.com/roles", url), both);
        for none in [
            json!({"roles": null}),
            json!({"roles": 7}),
            json!({"roles": ["Write"]}),
        ] {
            assert_eq!(roles("roles", none), Roles::known([]));
        }
    }
}
