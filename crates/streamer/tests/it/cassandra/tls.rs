//! TLS connections to Cassandra, and invalid certificates of both sides.

use std::path::Path;

use cdrs_tokio::types::ByName as _;
use testkit::certificates::CertificateAuthority;
use testkit::servers::secured::SERVER_NAME;
use testkit::service::{Service, ServiceOptions};

use crate::support::secured_cassandra::secured_env;
use crate::support::test_env::eventually;
use crate::support::traffic::wait_for_exit;

fn display(path: &Path) -> String {
    path.display().to_string()
}

/// Adds TLS with a client certificate of `authority`, and `trusted` as the only trusted authority.
fn with_tls(
    options: ServiceOptions,
    trusted: &CertificateAuthority,
    authority: &CertificateAuthority,
) -> ServiceOptions {
    let (certificate, key) = authority.issue_once("streamer", &["streamer"]);
    options
        .set("cassandra.tls.ca_path", display(&trusted.file()))
        .set("cassandra.tls.certificate_path", display(&certificate))
        .set("cassandra.tls.key_path", display(&key))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_over_mutual_tls() {
    let env = secured_env("encrypted", 3).await;
    let options = with_tls(env.options(), env.authority(), env.authority());
    let by_name = options.clone().set("cassandra.tls.server_name", SERVER_NAME);
    for options in [options, by_name] {
        let mut streamer = env.start(&options).await;
        env.with_traffic(env.wait_for_rows(&streamer)).await;
        let connections = format!(
            "SELECT ssl_enabled FROM system_views.clients WHERE username = '{}' ALLOW FILTERING",
            env.keyspace
        );
        let connections = env.cassandra.run(&connections).await.unwrap();
        let encrypted: Vec<bool> = connections
            .iter()
            .map(|row| row.r_by_name("ssl_enabled").unwrap())
            .collect();
        assert!(
            encrypted.len() >= 2 && encrypted.iter().all(|it| *it),
            "{encrypted:?}"
        );
        streamer
            .terminate(std::time::Duration::from_secs(25))
            .await
            .unwrap();
    }
    env.assert_nothing_lost_or_rejected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_certificate_is_reported_in_readiness() {
    let env = secured_env("certificates", 1).await;
    let (own, other) = (env.authority(), CertificateAuthority::new("other"));
    let good = with_tls(env.options(), own, own);
    let anonymous = env.options().set("cassandra.tls.ca_path", display(&own.file()));
    let cases = [
        (with_tls(env.options(), &other, own), "UnknownIssuer"),
        (
            good.set("cassandra.tls.server_name", "elsewhere.test"),
            "elsewhere.test",
        ),
        (with_tls(env.options(), own, &other), "fatal alert"),
        (anonymous, "fatal alert"),
    ];
    for (options, cause) in cases {
        let mut streamer = Service::start(&options).unwrap();
        eventually("readiness reports the cause", async || {
            let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
            if body.contains(cause) { Ok(()) } else { Err(body) }
        })
        .await;
        streamer.kill().await.unwrap();
    }
    let tables = format!(
        "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{}'",
        env.keyspace
    );
    assert!(
        env.cassandra.run(&tables).await.unwrap().is_empty(),
        "the keyspace was created"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_ca_file_exits_78_with_path() {
    let env = secured_env("unreadable", 1).await;
    let options = env.options().set("cassandra.tls.ca_path", "/no/such/ca.pem");
    let (code, log) = wait_for_exit(&Service::start(&options).unwrap()).await;
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("/no/such/ca.pem"), "{log}");
}
