//! Credentials change under load: no acknowledged record is lost, and none is late.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use testkit::certificates::{CertificateAuthority, concatenate_pem};
use testkit::proxy::Proxy;
use testkit::servers::secured;
use testkit::service::{Service, ServiceOptions};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::account::{Account, documented};
use super::env::{SecuredEnv, TIMEOUT, eventually};
use super::load::Load;
use super::login::{Login, SECRET};

/// A streamer with a client certificate of its own, which reaches Cassandra through a proxy.
fn streamer_options(env: &SecuredEnv, account: &Account, proxy: &Proxy, log: &str) -> ServiceOptions {
    let (certificate, key) = env.authority.issue(&env.name, &[&env.name]);
    account
        .options(env, "streamer", log)
        .set("cassandra.contact_points", proxy.address().to_string())
        .set(
            "cassandra.tls.certificate_path",
            certificate.display().to_string(),
        )
        .set("cassandra.tls.key_path", key.display().to_string())
}

/// Starts a publisher and a streamer, and waits until both are ready.
async fn start_services(env: &SecuredEnv, account: &Account, proxy: &Proxy) -> (Service, Service) {
    let publisher = Service::start(&account.options(env, "publisher", "publisher-1")).unwrap();
    let streamer = Service::start(&streamer_options(env, account, proxy, "streamer-1")).unwrap();
    publisher.wait_until_ready(TIMEOUT).await.unwrap();
    streamer.wait_until_ready(TIMEOUT).await.unwrap();
    (publisher, streamer)
}

/// A proxy to the node.
async fn node_proxy(env: &SecuredEnv) -> Proxy {
    let node: SocketAddr = env.cassandra.contact_points()[0].parse().unwrap();
    Proxy::start(node).await.unwrap()
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

/// Gives the broker another certificate while it runs, as an administrator does.
async fn replace_broker_certificate(env: &SecuredEnv) {
    let before = broker_certificate(env).await;
    let keystore = secured::next_keystore(&env.authority, &env.name);
    let settings = ["client", "certificate"].map(|listener| {
        format!(
            "listener.name.{listener}.ssl.keystore.location={}",
            keystore.display()
        )
    });
    env.kafka
        .alter_config(("brokers", "1"), &["--add-config", &settings.join(",")])
        .await
        .unwrap();
    eventually("new clients get the new certificate", async || {
        if broker_certificate(env).await == before {
            Err("the broker shows the previous one".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_rotate_under_load_without_loss_or_delay() {
    let env = SecuredEnv::new("rotation").await;
    env.create_all().await;
    let account = Account::new(&env, &env.name).await;
    account.grant(&env, &documented()).await;
    let proxy = node_proxy(&env).await;
    let (mut publisher, mut streamer) = start_services(&env, &account, &proxy).await;
    let load = Load::new(&env, publisher.api());
    let rotate = async {
        load.wait_for_progress().await;

        // Cassandra's client certificate: the files are read for each new session.
        env.authority.issue(&env.name, &[&env.name]);
        proxy.reset();
        load.wait_for_progress().await;

        // The broker's own certificate: open connections stay, later ones are checked against the same authority.
        replace_broker_certificate(&env).await;
        load.wait_for_progress().await;

        // Kafka's user and Cassandra's role: the next ones have the same rights.
        let next = format!("{}_next", env.name);
        env.kafka.set_password(&next, SECRET).await.unwrap();
        let mut second = Account::with_login(&env, &next, Login::scram(&next)).await;
        second.names = account.names.clone();
        second.grant(&env, &documented()).await;
        // Kafka's authority: the next processes trust the present one and its successor.
        let successor = CertificateAuthority::new("successor").file();
        let authorities = concatenate_pem(&[&successor, &env.authority.file()]);
        let trusting = |options: ServiceOptions| {
            options.set(
                "kafka.properties.ssl_ca_location",
                authorities.display().to_string(),
            )
        };
        let next_publisher = trusting(second.options(&env, "publisher", "publisher-2"));
        let next_publisher = Service::start(&next_publisher).unwrap();
        next_publisher.wait_until_ready(TIMEOUT).await.unwrap();
        load.move_to(next_publisher.api());
        assert_eq!(publisher.terminate(TIMEOUT).await.unwrap(), Some(0));
        assert_eq!(streamer.terminate(TIMEOUT).await.unwrap(), Some(0));
        let next_streamer = trusting(streamer_options(&env, &second, &proxy, "streamer-2"));
        let next_streamer = Service::start(&next_streamer).unwrap();
        next_streamer.wait_until_ready(TIMEOUT).await.unwrap();
        env.kafka.set_password(&env.name, "revoked").await.unwrap();
        load.wait_for_progress().await;

        // Kafka's password in place: open connections stay, so the services restart with the new one when it suits.
        env.kafka.set_password(&next, "another-secret").await.unwrap();
        load.wait_for_progress().await;
        for service in [&next_publisher, &next_streamer] {
            assert!(
                service.child().unwrap().is_running(),
                "{}",
                service.last_lines(20)
            );
        }
        (next_publisher, next_streamer)
    };
    let (mut publisher, mut streamer) = load.during(rotate).await;
    assert_eq!(publisher.terminate(TIMEOUT).await.unwrap(), Some(0));
    env.wait_until_caught_up(&account.names.group).await;
    load.assert_nothing_lost().await;
    load.assert_nothing_late();
    assert_eq!(streamer.terminate(TIMEOUT).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_client_certificate_is_reported_until_it_is_replaced() {
    let env = SecuredEnv::new("unusable_certificate").await;
    env.create_all().await;
    let account = Account::new(&env, &env.name).await;
    account.grant(&env, &documented()).await;
    let proxy = node_proxy(&env).await;
    let (mut publisher, mut streamer) = start_services(&env, &account, &proxy).await;
    let load = Load::new(&env, publisher.api());
    let reported = async |cause: &str| {
        proxy.reset();
        eventually(&format!("readiness reports: {cause}"), async || {
            let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
            if body.contains(cause) { Ok(()) } else { Err(body) }
        })
        .await;
    };
    let steps = async {
        load.wait_for_progress().await;
        let (own_certificate, own_key) = env.authority.issue(&env.name, &[&env.name]);
        let (certificate, key) = CertificateAuthority::new("other").issue("other", &["other"]);

        // Another process replaces the files at this moment: a file is empty, then only one of the two is new.
        std::fs::write(&own_certificate, "").unwrap();
        reported("has no valid PEM certificate").await;
        std::fs::copy(certificate, own_certificate).unwrap();
        reported("failed to apply cassandra.tls").await;

        std::fs::copy(key, own_key).unwrap();
        reported("fatal alert").await;
        env.authority.issue(&env.name, &[&env.name]);
        streamer.wait_until_ready(TIMEOUT).await.unwrap();
        load.wait_for_progress().await;
    };
    load.during(steps).await;
    assert_eq!(publisher.terminate(TIMEOUT).await.unwrap(), Some(0));
    env.wait_until_caught_up(&account.names.group).await;
    load.assert_nothing_lost().await;
    assert_eq!(streamer.terminate(TIMEOUT).await.unwrap(), Some(0));
}
