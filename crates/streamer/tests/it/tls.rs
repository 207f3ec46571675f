//! TLS to Cassandra: rows go over it, and a node that can't prove who it is gets none.

use std::path::Path;

use cdrs_tokio::types::ByName as _;
use testkit::service::{Service, ServiceOptions};

use crate::authority::Authority;
use crate::flow::ends;
use crate::guarded::{SERVER_NAME, guarded};
use crate::world::eventually;

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// With a certificate of `authority` to show, and nobody but `trusted` to trust.
fn with_tls(options: ServiceOptions, trusted: &Authority, authority: &Authority) -> ServiceOptions {
    let (certificate, key) = authority.issue("streamer", &["streamer"]);
    options
        .set("cassandra.tls.ca_path", shown(&trusted.file()))
        .set("cassandra.tls.certificate_path", shown(&certificate))
        .set("cassandra.tls.key_path", shown(&key))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_over_tls_and_both_sides_show_who_they_are() {
    let world = guarded("encrypted", 3).await;
    let options = with_tls(world.options(), world.authority(), world.authority());
    let by_name = options.clone().set("cassandra.tls.server_name", SERVER_NAME);
    for options in [options, by_name] {
        let mut streamer = world.start(&options).await;
        world.while_records_flow(world.busy(&streamer)).await;
        let connections = format!(
            "SELECT ssl_enabled FROM system_views.clients WHERE username = '{}' ALLOW FILTERING",
            world.keyspace
        );
        let connections = world.table.run(&connections).await.unwrap();
        let encrypted: Vec<bool> = connections
            .iter()
            .map(|row| row.r_by_name("ssl_enabled").unwrap())
            .collect();
        assert!(
            encrypted.len() >= 3 && encrypted.iter().all(|it| *it),
            "{encrypted:?}"
        );
        streamer
            .terminate(std::time::Duration::from_secs(25))
            .await
            .unwrap();
    }
    world.nothing_is_lost_or_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_or_a_streamer_that_cannot_prove_who_it_is_is_told_in_readiness() {
    let world = guarded("impostor", 1).await;
    let (ours, another) = (world.authority(), Authority::new("another"));
    let good = with_tls(world.options(), ours, ours);
    let anonymous = world.options().set("cassandra.tls.ca_path", shown(&ours.file()));
    let cases = [
        (with_tls(world.options(), &another, ours), "UnknownIssuer"),
        (
            good.set("cassandra.tls.server_name", "elsewhere.test"),
            "elsewhere.test",
        ),
        (with_tls(world.options(), ours, &another), "fatal alert"),
        (anonymous, "fatal alert"),
    ];
    for (options, says) in cases {
        let mut streamer = Service::start(&options).unwrap();
        eventually("the cause is told", async || {
            let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
            if body.contains(says) { Ok(()) } else { Err(body) }
        })
        .await;
        streamer.kill().await.unwrap();
    }
    let tables = format!(
        "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{}'",
        world.keyspace
    );
    assert!(
        world.table.run(&tables).await.unwrap().is_empty(),
        "something was written"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_cannot_be_read_ends_the_start_with_78_and_the_file() {
    let world = guarded("unreadable", 1).await;
    let options = world.options().set("cassandra.tls.ca_path", "/no/such/ca.pem");
    let (code, log) = ends(&Service::start(&options).unwrap()).await;
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("/no/such/ca.pem"), "{log}");
}
