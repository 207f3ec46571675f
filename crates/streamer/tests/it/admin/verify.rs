//! The command `verify`.

use testkit::kafka_client::ProducerRecord;
use uuid::Uuid;

use crate::support::commands::{assert_verified, new_ids, run_command, run_successfully, stop, tombstone};
use crate::support::secured_cassandra::{PASSWORD, secured_env};
use crate::support::test_env::{TestEnv, eventually, new_users, outgoing};

#[tokio::test(flavor = "multi_thread")]
async fn verify_reports_only_rows_changed_by_others() {
    let env = TestEnv::new("verify", 2).await;
    let mut streamer = env.streamer().await;
    let ids = new_ids(40);
    let garbage = ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..ProducerRecord::default()
    };
    let records: Vec<_> = ["v1", "v2"]
        .iter()
        .flat_map(|name| ids.iter().map(|id| outgoing(*id, name)))
        .chain([tombstone(ids[0]), garbage])
        .collect();
    env.kafka.write(&env.topic, &records).await.unwrap();
    env.wait_until_caught_up().await;
    let output = run_successfully(&env, "verify").await;
    assert_eq!(output, "records: 82, keys: 40, dead letters: 1, different: 0");

    // New versions of the same users are written while the command reads them.
    let writes = async {
        for version in 0..200 {
            let records: Vec<_> = ids[1..]
                .iter()
                .map(|id| outgoing(*id, &format!("later{version}")))
                .collect();
            env.kafka.write(&env.topic, &records).await.unwrap();
        }
    };
    let verifications = async {
        for _ in 0..3 {
            assert_verified(env.options()).await;
        }
    };
    tokio::join!(writes, verifications);
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    // Records after the checkpoint are not compared.
    env.write(&new_users(5)).await;
    let output = run_successfully(&env, "verify").await;
    assert!(output.contains("keys: 40,"), "{output}");

    let for_user = |statement: &str, id: Uuid| statement.replace("{id}", &id.to_string());
    for statement in [
        for_user(
            "UPDATE {ks}.created_users SET phone = 'x' WHERE id = {id}",
            ids[1],
        ),
        for_user("DELETE FROM {ks}.created_users WHERE id = {id}", ids[2]),
        for_user("UPDATE {ks}.created_users SET dob = null WHERE id = {id}", ids[3]),
        for_user("INSERT INTO {ks}.created_users (id) VALUES ({id})", ids[0]),
    ] {
        env.cassandra.run(&statement).await.unwrap();
    }
    let (code, output) = run_command(env.options(), "verify").await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("different: 4"), "{output}");
    for id in &ids[..4] {
        assert!(output.contains(&id.to_string()), "{output}");
    }
    assert!(
        output.contains(&format!("{} is in the table although", ids[0])),
        "{output}"
    );
    assert!(!output.contains(&ids[4].to_string()), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_by_role_that_reads_masks_names_the_permission() {
    let env = secured_env("masked", 1).await;
    let mut streamer = env.start(&env.options()).await;
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    let reader = format!("{}_reader", env.keyspace);
    let run = async |statement: &str| {
        let statement = statement.replace("{reader}", &reader);
        env.cassandra.run(&statement).await.unwrap();
    };
    run(&format!(
        "CREATE ROLE {{reader}} WITH PASSWORD = '{PASSWORD}' AND LOGIN = true"
    ))
    .await;
    run("GRANT SELECT ON KEYSPACE {ks} TO {reader}").await;
    let options = env.options().set("cassandra.username", &reader);
    let (code, output) = run_command(options.clone(), "verify").await;
    assert_eq!(code, Some(0), "{output}");

    run("ALTER TABLE {ks}.created_users ALTER email MASKED WITH DEFAULT").await;
    let (code, output) = run_command(options.clone(), "verify").await;
    assert_eq!(code, Some(78), "{output}");
    for part in ["email", "GRANT UNMASK ON TABLE", &reader] {
        assert!(output.contains(part), "{output}");
    }
    assert_eq!(output.lines().count(), 1, "{output}");
    // The owner of the keyspace has the permission, and a role may get it.
    let (code, output) = run_command(env.options(), "verify").await;
    assert_eq!(code, Some(0), "{output}");
    run("GRANT UNMASK ON TABLE {ks}.created_users TO {reader}").await;
    eventually("verify reads the values", async || {
        match run_command(options.clone(), "verify").await {
            (Some(0), _) => Ok(()),
            (code, output) => Err(format!("{code:?} {output}")),
        }
    })
    .await;
}
