//! Rejects requests of other sites' pages, which a browser on a trusted machine would send.
//!
//! A page of another site can send simple requests to this port. By DNS rebinding it can also read the responses: its own
//! name then resolves to this address. So an API without authentication accepts only host names that such a page can't have.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;
use crate::config::IngesterSettings;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts that requests may name.
#[derive(Clone)]
pub(super) struct OriginCheck {
    /// `None` if callers are authenticated: a page of another site has no token.
    host_names: Option<Arc<[String]>>,
}

impl OriginCheck {
    pub(super) fn new(settings: &IngesterSettings) -> Self {
        let anonymous = !settings.auth.requires_token();
        Self {
            host_names: anonymous.then(|| settings.api.host_names.to_vec().into()),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let site = headers.get(SEC_FETCH_SITE);
        let is_cross_site = site.is_some_and(|site| site != "same-origin" && site != "none");
        if is_cross_site && !request.method().is_safe() {
            return Err(Problem::cross_site());
        }
        let Some(host_names) = &self.host_names else {
            return Ok(());
        };
        let authority = authority(request).ok_or_else(Problem::no_host)?;
        if !is_trusted(authority.host(), host_names) {
            return Err(Problem::unknown_host(authority.host()));
        }
        match headers.get(ORIGIN) {
            Some(origin) if !is_origin(origin.as_bytes(), &authority) => Err(Problem::cross_site()),
            _ => Ok(()),
        }
    }
}

/// The authority that the request is for: in HTTP/2 of its target, otherwise of its only `Host`.
fn authority(request: &Request) -> Option<Authority> {
    request
        .uri()
        .authority()
        .cloned()
        .or_else(|| only_host(request.headers())?.parse().ok())
}

fn only_host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(HOST).into_iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

/// An address, `localhost` and a configured name. DNS can make none of them an attacker's.
fn is_trusted(host: &str, host_names: &[String]) -> bool {
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    address.is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || host_names.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// Whether `origin` is a site of this authority, by either scheme: a proxy may add TLS.
fn is_origin(origin: &[u8], authority: &Authority) -> bool {
    let site = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    site.is_some_and(|site| site.eq_ignore_ascii_case(authority.as_str().as_bytes()))
}

/// Middleware that applies the check.
pub(super) async fn check_origin(
    State(check): State<OriginCheck>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    check.check(&request)?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use service::config::List;

    use super::*;

    fn check(change: impl FnOnce(&mut IngesterSettings)) -> OriginCheck {
        let mut settings = IngesterSettings::default();
        change(&mut settings);
        OriginCheck::new(&settings)
    }

    fn is_accepted(check: &OriginCheck, method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = axum::http::Request::builder().method(method).uri("/v1/runs");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check.check(&request.body(Body::empty()).unwrap()).is_ok()
    }

    #[test]
    fn anonymous_callers_name_a_trusted_host() {
        let anonymous = check(|settings| settings.api.host_names = List::of(["ingester.example"]));
        for host in [
            "127.0.0.1:8081",
            "192.0.2.1",
            "[::1]:8081",
            "localhost:8081",
            "LOCALHOST",
            "Ingester.Example:8081",
        ] {
            for method in ["GET", "POST"] {
                assert!(
                    is_accepted(&anonymous, method, &[("host", host)]),
                    "{method} {host}"
                );
            }
        }
        for host in [
            "evil.example",
            "evil.example:8081",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "ingester.example.evil",
            "",
            "a b",
        ] {
            for method in ["GET", "POST"] {
                assert!(
                    !is_accepted(&anonymous, method, &[("host", host)]),
                    "{method} {host}"
                );
            }
        }
        assert!(!is_accepted(&anonymous, "GET", &[]), "no host");
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert!(!is_accepted(&anonymous, "GET", &two));
    }

    #[test]
    fn origin_of_an_anonymous_caller_matches_the_host() {
        let anonymous = check(|_| {});
        let host = ("host", "127.0.0.1:8081");
        for origin in ["http://127.0.0.1:8081", "https://127.0.0.1:8081"] {
            assert!(
                is_accepted(&anonymous, "POST", &[host, ("origin", origin)]),
                "{origin}"
            );
        }
        for origin in [
            "http://evil.example",
            "http://127.0.0.1",
            "http://127.0.0.1:8081.evil.example",
            "http://localhost:8081",
            "null",
            "127.0.0.1:8081",
        ] {
            assert!(
                !is_accepted(&anonymous, "POST", &[host, ("origin", origin)]),
                "{origin}"
            );
        }
    }

    #[test]
    fn authenticated_callers_may_name_any_host() {
        let known = check(|settings| settings.auth.tokens_path = Some("tokens".into()));
        let headers = [
            ("host", "ingester.example"),
            ("origin", "https://gateway.example"),
        ];
        assert!(is_accepted(&known, "POST", &headers));
        let cross_site = [("sec-fetch-site", "cross-site")];
        assert!(!is_accepted(&known, "POST", &cross_site));
    }

    #[test]
    fn cross_site_requests_are_rejected() {
        let anonymous = check(|_| {});
        let accepted = |site| {
            is_accepted(
                &anonymous,
                "POST",
                &[("host", "localhost"), ("sec-fetch-site", site)],
            )
        };
        assert!(accepted("same-origin") && accepted("none"));
        assert!(!accepted("cross-site") && !accepted("same-site"));
    }
}
