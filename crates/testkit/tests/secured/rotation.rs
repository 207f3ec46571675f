//! Credentials change under load: no acknowledged record is lost.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, Method};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use testkit::certificates::{CertificateAuthority, concatenate_pem};
use testkit::process::Program;
use testkit::proxy::Proxy;
use testkit::servers::{Software, jars, secured};
use testkit::service::{Service, ServiceOptions};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use crate::account::{Account, documented};
use crate::env::{SecuredEnv, TIMEOUT, eventually, record};
use crate::login::Login;

/// Time between two requests of the load.
const INTERVAL: Duration = Duration::from_millis(20);

/// The publisher that gets the load, and the users that it has acknowledged.
struct Load {
    publisher: Mutex<String>,
    acknowledged: Mutex<BTreeSet<Uuid>>,
}

impl Load {
    /// Sends one user after another, until it is dropped. A request that fails is not acknowledged.
    async fn run(&self) {
        let client = Client::new();
        loop {
            let record = record(Uuid::new_v4(), 0);
            let id = String::from_utf8(record.key.unwrap()).unwrap();
            let url = format!("{}/v1/users", self.publisher.lock().unwrap());
            let request = client
                .request(Method::POST, url)
                .header("content-type", "application/json")
                .body(record.value.unwrap())
                .timeout(TIMEOUT);
            if request
                .send()
                .await
                .is_ok_and(|response| response.status() == 200)
            {
                self.acknowledged.lock().unwrap().insert(id.parse().unwrap());
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

/// Waits until more acknowledged users are rows than now are acknowledged.
async fn wait_for_progress(env: &SecuredEnv, load: &Load) {
    let before = load.count();
    eventually("later users are rows", async || {
        let rows = env.table.users().await.map_err(|error| error.to_string())?;
        let acknowledged = load.acknowledged.lock().unwrap();
        let stored = acknowledged.iter().filter(|id| rows.contains_key(id)).count();
        if stored > before {
            Ok(())
        } else {
            Err(format!("{stored} of {before}"))
        }
    })
    .await;
}

/// Gives the broker another keystore while it runs, as an administrator does.
async fn replace_keystore(env: &SecuredEnv, keystore: &Path) {
    let classes = format!("{}/*", jars(Software::KAFKA).await.unwrap().display());
    let settings = ["client", "certificate"].map(|listener| {
        format!(
            "listener.name.{listener}.ssl.keystore.location={}",
            keystore.display()
        )
    });
    let child = Program::new("java")
        .args(["-Xmx128m", "-cp", &classes, "kafka.admin.ConfigCommand"])
        .args(["--bootstrap-server", &env.kafka.internal_bootstrap()])
        .args(["--entity-type", "brokers", "--entity-name", "1"])
        .args(["--alter", "--add-config", &settings.join(",")])
        .log_to(env.folder.join("keystore.log"))
        .spawn()
        .unwrap();
    let status = child.wait(TIMEOUT).await.unwrap();
    assert!(status.success(), "{}", child.last_lines(20));
}

/// The certificate that the broker shows to a new client.
async fn broker_certificate(env: &SecuredEnv) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(env.authority.file()).unwrap() {
        roots.add(authority.unwrap()).unwrap();
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(env.kafka.bootstrap()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .unwrap();
    let (_, connection) = stream.get_ref();
    connection.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_rotate_under_load_without_loss() {
    let env = SecuredEnv::new("rotation").await;
    env.create_all().await;
    let mut account = Account::new(&env, &env.name).await;
    account.grant(&env, &documented()).await;
    let node: std::net::SocketAddr = env.cassandra.contact_points()[0].parse().unwrap();
    let proxy = Proxy::start(node).await.unwrap();
    let own_files = |account: &Account, log: &str| {
        let (certificate, key) = env.authority.issue(&env.name, &[&env.name]);
        account
            .options(&env, "streamer", log)
            .set("cassandra.contact_points", proxy.address().to_string())
            .set(
                "cassandra.tls.certificate_path",
                certificate.display().to_string(),
            )
            .set("cassandra.tls.key_path", key.display().to_string())
    };
    let mut publisher = Service::start(&account.options(&env, "publisher", "publisher-1")).unwrap();
    let mut streamer = Service::start(&own_files(&account, "streamer-1")).unwrap();
    publisher.wait_until_ready(TIMEOUT).await.unwrap();
    streamer.wait_until_ready(TIMEOUT).await.unwrap();
    let load = Load {
        publisher: Mutex::new(publisher.api()),
        acknowledged: Mutex::default(),
    };
    let rotate = async {
        wait_for_progress(&env, &load).await;

        // Cassandra's client certificate: the files are read for each new session, first wrong ones, then new ones.
        let (own_certificate, own_key) = env.authority.issue(&env.name, &[&env.name]);
        let (certificate, key) = CertificateAuthority::new("other").issue("other", &["other"]);
        std::fs::copy(certificate, own_certificate).unwrap();
        std::fs::copy(key, own_key).unwrap();
        proxy.reset();
        eventually("readiness reports the wrong certificate", async || {
            let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
            if body.contains("fatal alert") {
                Ok(())
            } else {
                Err(body)
            }
        })
        .await;
        env.authority.issue(&env.name, &[&env.name]);
        streamer.wait_until_ready(TIMEOUT).await.unwrap();
        wait_for_progress(&env, &load).await;

        // The broker's own certificate: open connections stay, later ones are checked against the same authority.
        let before = broker_certificate(&env).await;
        let keystore = secured::next_keystore(&env.authority, &env.name);
        replace_keystore(&env, &keystore).await;
        eventually("new clients get the new certificate", async || {
            if broker_certificate(&env).await == before {
                Err("the broker shows the previous one".to_owned())
            } else {
                Ok(())
            }
        })
        .await;
        wait_for_progress(&env, &load).await;

        // Kafka's user: the next one has the same rights, and is used by the next publisher before the first one stops.
        let next = format!("{}_next", env.name);
        let login = Login::scram(&next);
        env.kafka.set_password(&next, crate::login::SECRET).await.unwrap();
        account.login = login;
        account
            .grant(&env, documented().iter().filter(|right| right.server == "Kafka"))
            .await;
        // Kafka's authority: the next processes trust the present one and its successor.
        let successor = CertificateAuthority::new("successor").file();
        let authorities = concatenate_pem(&[&successor, &env.authority.file()]);
        let trusting = |options: ServiceOptions| {
            options.set(
                "kafka.properties.ssl_ca_location",
                authorities.display().to_string(),
            )
        };
        let second = trusting(account.options(&env, "publisher", "publisher-2"));
        let second = Service::start(&second).unwrap();
        second.wait_until_ready(TIMEOUT).await.unwrap();
        *load.publisher.lock().unwrap() = second.api();
        assert_eq!(publisher.terminate(TIMEOUT).await.unwrap(), Some(0));
        assert_eq!(streamer.terminate(TIMEOUT).await.unwrap(), Some(0));
        let next_streamer = Service::start(&trusting(own_files(&account, "streamer-2"))).unwrap();
        next_streamer.wait_until_ready(TIMEOUT).await.unwrap();
        env.kafka.set_password(&env.name, "revoked").await.unwrap();
        wait_for_progress(&env, &load).await;

        // Kafka's password in place: open connections stay, so the services restart with the new one when it suits.
        env.kafka.set_password(&next, "another-secret").await.unwrap();
        wait_for_progress(&env, &load).await;
        for service in [&second, &next_streamer] {
            assert!(
                service.child().unwrap().is_running(),
                "{}",
                service.last_lines(20)
            );
        }
        (second, next_streamer)
    };
    let (mut publisher, mut streamer) = tokio::select! {
        services = rotate => services,
        () = load.run() => unreachable!("the load ends with the test"),
    };
    assert_eq!(publisher.terminate(TIMEOUT).await.unwrap(), Some(0));
    env.wait_until_caught_up(&account.names.group).await;
    assert_eq!(streamer.terminate(TIMEOUT).await.unwrap(), Some(0));
    let rows = env.table.users().await.unwrap();
    let acknowledged = load.acknowledged.into_inner().unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !rows.contains_key(id)).collect();
    assert!(lost.is_empty(), "{lost:?} of {}", acknowledged.len());
    let letters = env.records.end_offsets(&env.dead_letters()).await.unwrap();
    assert!(letters.values().all(|end| *end == 0), "{letters:?}");
}
