//! Credentials change under load: no acknowledged record is lost.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::{Client, Method};
use testkit::certificates::{CertificateAuthority, concatenate_pem};
use testkit::proxy::Proxy;
use testkit::service::{Service, ServiceOptions};
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
