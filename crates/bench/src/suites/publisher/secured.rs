//! A publisher with TLS and a token, and the requests for it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::process::Child;
use testkit::service::{Service, ServiceOptions};

use super::http_target::{HttpTarget, address};
use crate::load::connection::{SERVER_NAME, TargetServer};

const TOPIC: &str = "bench_secured";
const TOKEN: &str = "bench-token";
/// The SHA-256 of the token, as the token file has it.
const TOKEN_LINE: &str = "bench 7137e16f75a1d75b6fd65930672814806cdc1a0d6e0aa38611afc996a402258b\n";
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The running publisher.
pub(super) struct SecuredPublisher {
    pub(super) target: HttpTarget,
    /// Ends with this value.
    _service: Service,
}

impl SecuredPublisher {
    pub(super) async fn start(brokers: &str, folder: &Path) -> Result<Self> {
        let folder = folder.join("secured");
        fs::create_dir_all(&folder).with_context(|| format!("failed to use {}", folder.display()))?;
        let pair = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]);
        let pair = pair.context("failed to make a certificate")?;
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            let path = path
                .to_str()
                .map(str::to_owned)
                .context("a path that is not UTF-8")?;
            fs::write(&path, text).with_context(|| format!("failed to write {path}"))?;
            Ok::<_, anyhow::Error>(path)
        };
        let options = ServiceOptions::new("publisher", &folder)
            .log_name("publisher-secured")
            .set("kafka.brokers", brokers)
            .set("kafka.topic", TOPIC)
            .set("tls.certificate_path", file("certificate.pem", &pair.cert.pem())?)
            .set(
                "tls.key_path",
                file("key.pem", &pair.signing_key.serialize_pem())?,
            )
            .set("auth.tokens_path", file("tokens", TOKEN_LINE)?);
        let service = Service::start(&options)?;
        service.wait_until_ready(READY_TIMEOUT).await?;
        let server = TargetServer::secured(address(&service)?, pair.cert.der().clone())?;
        let pid = service.child().map_or(0, Child::pid);
        let name = "the publisher with TLS and a token";
        Ok(Self {
            target: HttpTarget::new(name, server, pid, ["/v1/users"; 2], Some(TOKEN)),
            _service: service,
        })
    }
}
