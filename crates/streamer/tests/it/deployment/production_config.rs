//! The streamer's configuration of the overlay `prod` with its secret files: TLS and SCRAM to Kafka with only the ACLs of
//! the operations manual, and TLS and passwords to Cassandra.

use std::fs;
use std::path::Path;

use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::servers::{AclOperation, KafkaResource, secured};
use testkit::workspace;

use crate::support::secured_cassandra::{PASSWORD, secured_env};
use crate::support::test_env::{DEADLINE, eventually, new_users, outgoing};

const SECRET: &str = "scram-secret";

/// Writes the secrets of the overlay to `folder`, which replaces `/run/secrets`.
fn write_secrets(folder: &Path, user: &str, role: &str, authority: &Path) {
    for (secret, user, password) in [
        ("kafka-client", user, SECRET),
        ("cassandra-client", role, PASSWORD),
    ] {
        let secret = folder.join(secret);
        fs::create_dir_all(&secret).unwrap();
        fs::write(secret.join("username"), user).unwrap();
        fs::write(secret.join("password"), format!("{password}\n")).unwrap();
        fs::copy(authority, secret.join("ca.crt")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prod_overlay_connects_with_tls_and_documented_acls() {
    let env = secured_env("production", 1).await;
    let authority = env.authority();
    let kafka = secured::kafka(authority).await.unwrap();
    kafka.create_topic(&env.topic, 1).await.unwrap();
    let dead_letters = env.dead_letter_topic();
    let (topic, dead_letters) = (&*env.topic, &*dead_letters);
    let user = topic;
    kafka.set_password(user, SECRET).await.unwrap();
    let of = |topic: &str| KafkaResource::Topic(topic.to_owned());
    let rights = [
        (AclOperation::Read, of(topic)),
        (AclOperation::Create, of(dead_letters)),
        (AclOperation::Read, of(dead_letters)),
        (AclOperation::Write, of(dead_letters)),
        (AclOperation::Read, KafkaResource::Group(topic.to_owned())),
    ];
    kafka.allow(user, &rights).await.unwrap();

    let folder = env.folder().join("secrets");
    write_secrets(&folder, user, &env.keyspace, &authority.file());
    let file = workspace::root()
        .unwrap()
        .join("deploy/kubernetes/overlays/prod/config/streamer.toml");
    let text = fs::read_to_string(file).unwrap();
    let file = env.folder().join("streamer.toml");
    fs::write(&file, text.replace("/run/secrets", &folder.display().to_string())).unwrap();
    // The node also requires a client certificate. Addresses and replication are those of the test servers.
    let (certificate, key) = authority.issue_once("streamer", &["streamer"]);
    let options = env
        .without_login()
        .options()
        .arg("--config")
        .arg(file.display().to_string())
        .set("kafka.brokers", kafka.bootstrap())
        .set("kafka.replication", "1")
        .set(
            "cassandra.replication",
            "{'class': 'SimpleStrategy', 'replication_factor': 1}",
        )
        .set(
            "cassandra.tls.certificate_path",
            certificate.display().to_string(),
        )
        .set("cassandra.tls.key_path", key.display().to_string());
    let mut streamer = env.start(&options).await;

    let client = KafkaClient::new(kafka.internal_bootstrap()).unwrap();
    let garbage = ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..ProducerRecord::default()
    };
    let users = new_users(50);
    let records: Vec<_> = users
        .iter()
        .map(|(id, name)| outgoing(*id, name))
        .chain([garbage])
        .collect();
    client.write(topic, &records).await.unwrap();
    eventually("all users are rows", async || {
        let found = env.users().await.len();
        if found == users.len() {
            Ok(())
        } else {
            Err(found.to_string())
        }
    })
    .await;
    eventually("the garbage is a dead letter", async || {
        match client.end_offsets(dead_letters).await {
            Ok(ends) if ends.values().sum::<i64>() == 1 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
}
