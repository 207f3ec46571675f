//! Authentication, rate limits and TLS.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod,
    KeyPair, RevokedCertParams, date_time_ymd,
};
use reqwest::{Certificate, Client, Identity};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use testkit::service::ServiceOptions;

use crate::support::broker;
use crate::support::publisher_process::{Publisher, exit, setup, status_and_body};
use crate::support::sample_users::{user, users};
use crate::support::topic::Topic;

/// A line of the token file.
pub(crate) fn token_line(name: &str, token: &str) -> String {
    let hex: String = Sha256::digest(token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{name} {hex}\n")
}

async fn setup_with_topic() -> (ServiceOptions, Topic) {
    let topic = Topic::new(&broker::shared().await);
    let setup = setup(&topic.brokers, &topic.name).set("http.reload_interval", "50ms");
    (setup, topic)
}

async fn post_with_token(publisher: &Publisher, token: &str) -> u16 {
    let request = publisher.post("application/json", user().to_string());
    status_and_body(request.bearer_auth(token)).await.0
}

#[tokio::test]
async fn tokens_are_required_and_rotate_without_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, token_line("ingester", "old-token")).unwrap();
    let (setup, topic) = setup_with_topic().await;
    let publisher = Publisher::start(&setup.set("auth.tokens_path", path.to_str().unwrap())).await;
    publisher.wait_until_ready().await;

    let response = publisher
        .post("application/json", user().to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(response.status(), 401);
    assert_eq!(post_with_token(&publisher, "wrong-token").await, 403);
    assert_eq!(post_with_token(&publisher, "old-token").await, 200);
    let delete = publisher.client.delete(format!(
        "{}/v1/users/0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071",
        publisher.url
    ));
    assert_eq!(status_and_body(delete).await.0, 401);

    fs::write(
        &path,
        token_line("ingester", "old-token") + &token_line("ingester", "new-token"),
    )
    .unwrap();
    publisher
        .wait_until("rotated", async || {
            post_with_token(&publisher, "new-token").await == 200
        })
        .await;
    assert_eq!(post_with_token(&publisher, "old-token").await, 200);
    fs::write(&path, "nonsense").unwrap();
    publisher
        .wait_until("logged", async || {
            publisher
                .service
                .last_lines(50)
                .contains(":1: expected a name and the SHA-256")
        })
        .await;
    assert_eq!(post_with_token(&publisher, "new-token").await, 200);
    fs::write(&path, token_line("ingester", "new-token")).unwrap();
    publisher
        .wait_until("revoked", async || {
            post_with_token(&publisher, "old-token").await == 403
        })
        .await;
    assert!(!publisher.service.last_lines(1000).contains("-token"));
    assert!(topic.read().await.len() >= 4);
}

#[tokio::test]
async fn rate_limit_applies_to_each_caller() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, token_line("fast", "f") + &token_line("slow", "s")).unwrap();
    let (setup, topic) = setup_with_topic().await;
    let publisher = Publisher::start(
        &setup
            .set("auth.tokens_path", path.to_str().unwrap())
            .set("rate_limit.requests_per_second", "5"),
    )
    .await;
    publisher.wait_until_ready().await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(post_with_token(&publisher, "f").await);
    }
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.contains(&429) && accepted >= 5, "{statuses:?}");
    assert_eq!(post_with_token(&publisher, "s").await, 200);
    // The limiter refills meanwhile, so several requests may be needed to exceed it again.
    let retry_after = async || {
        let request = publisher
            .post("application/json", user().to_string())
            .bearer_auth("f");
        let response = request.send().await.unwrap();
        (response.status() == 429).then(|| response.headers()["retry-after"].clone())
    };
    let mut limited = None;
    for _ in 0..100 {
        limited = limited.or(retry_after().await);
    }
    assert_eq!(limited.unwrap(), "1");
    assert!(topic.read().await.len() > accepted);
}

#[tokio::test]
async fn rate_limit_applies_to_bytes() {
    let (setup, topic) = setup_with_topic().await;
    let publisher = Publisher::start(
        &setup
            .set("rate_limit.bytes_per_second", "1kB")
            .set("limits.max_body", "64 KiB"),
    )
    .await;
    publisher.wait_until_ready().await;
    let (status, _) = publisher.send(&users(100)).await;
    assert_eq!(status, 200, "one large body fits");
    let (status, body) = publisher.send(&users(100)).await;
    assert_eq!(
        (status, &body["type"]),
        (429, &json!("urn:affluent:problem:rate-limited"))
    );
    assert_eq!(topic.read().await.len(), 100);
    publisher.wait_until_idle().await;
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Issues a certificate and its key, PEM.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A client with a certificate for these names.
    fn client(&self, names: &[&str]) -> Client {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
        let identity = Identity::from_pem(pem.as_bytes()).unwrap();
        self.trusted().identity(identity).build().unwrap()
    }

    /// Issues a certificate with this serial number, and its key, PEM.
    fn issue_with_serial(&self, serial: u64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["caller.example".to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The list of revoked certificates with these serial numbers, PEM.
    fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    fn write(&self, folder: &Path) {
        let (certificate, key) = self.issue();
        fs::write(folder.join("key.pem"), key).unwrap();
        fs::write(folder.join("cert.pem"), certificate).unwrap();
        fs::write(folder.join("ca.pem"), self.0.pem()).unwrap();
    }

    fn trusted(&self) -> reqwest::ClientBuilder {
        let root = Certificate::from_pem(self.0.pem().as_bytes()).unwrap();
        Client::builder().tls_certs_only([root])
    }
}

fn in_folder(folder: &TempDir, file: &str) -> String {
    folder.path().join(file).to_str().unwrap().to_owned()
}

async fn start_with_tls(setup: ServiceOptions, folder: &TempDir) -> Publisher {
    let mut publisher = Publisher::start(
        &setup
            .set("tls.certificate_path", in_folder(folder, "cert.pem"))
            .set("tls.key_path", in_folder(folder, "key.pem")),
    )
    .await;
    publisher.url = publisher.url.replace("http:", "https:");
    publisher.wait_until_ready().await;
    publisher
}

#[tokio::test]
async fn tls_serves_both_http_versions_and_reloads_files() {
    let (folder, first) = (tempfile::tempdir().unwrap(), Authority::new());
    first.write(folder.path());
    let (setup, topic) = setup_with_topic().await;
    let mut publisher = start_with_tls(setup, &folder).await;
    publisher.client = first.trusted().build().unwrap();
    assert_eq!(publisher.send(&users(3)).await.0, 200);
    publisher.client = first.trusted().http1_only().build().unwrap();
    assert_eq!(publisher.send(&users(3)).await.0, 200);

    let plain = publisher.url.replace("https:", "http:");
    assert!(
        Client::new().get(plain).send().await.is_err(),
        "no plain HTTP on this port"
    );

    let second = Authority::new();
    second.write(folder.path());
    publisher
        .wait_until("renewed", async || {
            let client = second.trusted().build().unwrap();
            client
                .get(format!("{}/v1/schema", publisher.url))
                .send()
                .await
                .is_ok()
        })
        .await;
    fs::write(folder.path().join("cert.pem"), "junk").unwrap();
    publisher
        .wait_until("logged", async || {
            publisher
                .service
                .last_lines(50)
                .contains("has no valid PEM certificate")
        })
        .await;
    publisher.client = second.trusted().build().unwrap();
    assert_eq!(
        publisher.send(&users(3)).await.0,
        200,
        "the previous certificate stays in use"
    );
    assert_eq!(topic.read().await.len(), 9);
}

#[tokio::test]
async fn client_certificate_is_required_with_client_ca() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.write(folder.path());
    let (setup, topic) = setup_with_topic().await;
    let setup = setup.set("tls.client_ca_path", in_folder(&folder, "ca.pem"));
    let mut publisher = start_with_tls(setup, &folder).await;
    let request = |client: &Client| client.get(format!("{}/v1/schema", publisher.url)).send();
    assert!(
        request(&authority.trusted().build().unwrap()).await.is_err(),
        "without a certificate"
    );
    let identity = |(certificate, key): (String, String)| {
        Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap()
    };
    let foreign = authority.trusted().identity(identity(Authority::new().issue()));
    assert!(
        request(&foreign.build().unwrap()).await.is_err(),
        "with a certificate of another authority"
    );
    let known = authority.trusted().identity(identity(authority.issue()));
    publisher.client = known.build().unwrap();
    assert_eq!(publisher.send(&users(3)).await.0, 200);
    assert_eq!(topic.read().await.len(), 3);
}

/// With certificates alone, callers share neither rate limits nor idempotency keys.
#[tokio::test]
async fn client_certificate_names_the_caller() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.write(folder.path());
    let (setup, topic) = setup_with_topic().await;
    let setup = setup.set("tls.client_ca_path", in_folder(&folder, "ca.pem"));
    let publisher = start_with_tls(setup, &folder).await;
    let keyed = async |client: &Client, records: &[serde_json::Value]| {
        let body = serde_json::to_vec(records).unwrap();
        let request = client
            .post(format!("{}/v1/users", publisher.url))
            .header("content-type", "application/json")
            .header("idempotency-key", "same");
        request.body(body).send().await.unwrap()
    };
    let (one, other) = (users(1), users(2));
    for replayed in [false, true] {
        // Another connection of the same caller, with a renewed certificate.
        let client = authority.client(&["one.example"]);
        let response = keyed(&client, &one).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().contains_key("idempotency-replayed"), replayed);
    }
    let response = keyed(&authority.client(&["other.example"]), &other).await;
    assert_eq!(response.status(), 200, "another caller has its own keys");
    assert!(!response.headers().contains_key("idempotency-replayed"));
    assert_eq!(topic.read().await.len(), 3);
}

#[tokio::test]
async fn revoked_client_certificate_is_rejected() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.write(folder.path());
    let (revoked, valid) = (authority.issue_with_serial(7), authority.issue_with_serial(8));
    fs::write(folder.path().join("crl.pem"), authority.revoke(&[])).unwrap();
    let (setup, _) = setup_with_topic().await;
    let setup = setup
        .set("tls.client_ca_path", in_folder(&folder, "ca.pem"))
        .set("tls.client_crl_path", in_folder(&folder, "crl.pem"));
    let publisher = start_with_tls(setup, &folder).await;
    let is_served = async |(certificate, key): &(String, String)| {
        let identity = Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
        let client = authority.trusted().identity(identity).build().unwrap();
        client
            .get(format!("{}/v1/schema", publisher.url))
            .send()
            .await
            .is_ok()
    };
    assert!(is_served(&revoked).await && is_served(&valid).await);
    fs::write(folder.path().join("crl.pem"), authority.revoke(&[7])).unwrap();
    publisher
        .wait_until("rejecting", async || !is_served(&revoked).await)
        .await;
    assert!(is_served(&valid).await);
}

#[tokio::test]
async fn unreadable_file_exits_with_78() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("junk"), "junk").unwrap();
    let (gone, junk) = (in_folder(&folder, "gone"), in_folder(&folder, "junk"));
    for (key, path, expected) in [
        ("auth.tokens_path", &gone, "gone"),
        ("auth.tokens_path", &junk, ":1: "),
        ("tls.certificate_path", &gone, "gone"),
        ("tls.certificate_path", &junk, "no valid PEM certificate"),
    ] {
        let mut setup = setup("127.0.0.1:1", "nowhere").set(key, path);
        if key.starts_with("tls") {
            setup = setup.set("tls.key_path", &junk);
        }
        let (code, log) = exit(&setup).await;
        assert_eq!(code, Some(78), "{log}");
        assert!(log.contains(expected), "{log}");
    }
}
