//! The retention of dead letters, and the report of where an erased key still is.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use testkit::kafka_client::ProducerRecord;
use testkit::service::Service;
use uuid::Uuid;

use crate::support::commands::{run_command, run_successfully, tombstone};
use crate::support::test_env::{DEADLINE, TestEnv, eventually, outgoing};

fn admin(env: &TestEnv) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", env.bootstrap())
        .create()
        .unwrap()
}

/// Creates a topic with one partition and these settings.
async fn create_topic(env: &TestEnv, name: &str, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    topic.config = settings.to_vec();
    let created = admin(env).create_topics([&topic], &AdminOptions::new()).await;
    created.unwrap().pop().unwrap().unwrap();
}

/// Returns the values of these settings of a topic.
async fn settings<const N: usize>(env: &TestEnv, topic: &str, names: [&str; N]) -> [String; N] {
    let topic = ResourceSpecifier::Topic(topic);
    let described = admin(env).describe_configs([&topic], &AdminOptions::new()).await;
    let config = described.unwrap().pop().unwrap().unwrap();
    names.map(|name| config.get(name).unwrap().value.clone().unwrap())
}

const WEEK: &str = "604800000";
const YEAR: &str = "31536000000";

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_retention_is_not_below_that_of_records() {
    let env = TestEnv::without_topic("retention").await;
    create_topic(&env, &env.topic, &[("retention.ms", YEAR)]).await;
    let refused = Service::start(&env.options().log_name("refused")).unwrap();
    assert_eq!(refused.wait(DEADLINE).await.unwrap(), Some(78));
    let log = refused.last_lines(5);
    assert!(
        log.contains("Set dead_letters.retention to at least 31536000s"),
        "{log}"
    );

    // An existing topic is kept, with a warning, and changed by the command alone.
    let letters = env.dead_letter_topic();
    create_topic(&env, &letters, &[("max.message.bytes", "2000000")]).await;
    let options = env.options().set("dead_letters.retention", "8784h");
    let streamer = env.start(&options).await;
    let log = streamer.last_lines(50);
    assert!(
        log.contains("remedy=\"streamer dead-letters retention --apply\""),
        "{log}"
    );
    let names = ["retention.ms", "segment.ms", "max.message.bytes"];
    assert_eq!(settings(&env, &letters, names).await, [WEEK, WEEK, "2000000"]);
    let (code, output) = run_command(env.options(), "dead-letters retention --apply").await;
    assert!(
        code == Some(78) && output.contains("at least 31536000s"),
        "{output}"
    );
    let (code, output) = run_command(options.clone(), "dead-letters retention").await;
    assert!(
        code == Some(0) && output.contains("retention.ms   604800000 -> 31622400000"),
        "{output}"
    );
    assert_eq!(settings(&env, &letters, names).await, [WEEK, WEEK, "2000000"]);
    let (code, output) = run_command(options.clone(), "dead-letters retention --apply").await;
    assert!(code == Some(0) && output.contains("is changed"), "{output}");
    let expected = ["31622400000", "86400000", "2000000"];
    // The controller has acknowledged the change before the broker applies it.
    eventually("the change is in effect", async || {
        let found = settings(&env, &letters, names).await;
        if found == expected {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
    let (_, output) = run_command(options, "dead-letters retention").await;
    assert!(output.contains("is as configured"), "{output}");
}

/// Returns the report of a key, which must exit with this code.
async fn report(env: &TestEnv, key: Uuid, code: i32) -> Value {
    let (found, output) = run_command(env.options(), &format!("erasure-report {key} --json")).await;
    assert_eq!(found, Some(code), "{output}");
    let mut lines = output.lines();
    let line = lines.find_map(|line| serde_json::from_str(line).ok());
    line.unwrap_or_else(|| panic!("{output}"))
}

fn kinds(report: &Value) -> Vec<(&Value, &Value, bool)> {
    let copies = report["copies"].as_array().unwrap().iter();
    let found = copies.map(|it| (&it["topic"], &it["kind"], it["deleted_by"].is_string()));
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(topic, kind, _)| (topic.to_string(), kind.to_string()));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn erasure_report_names_every_place_of_a_key() {
    let env = TestEnv::without_topic("erasure").await;
    let _streamer = env.streamer().await;
    let id = Uuid::new_v4();
    let upper = id.to_string().to_uppercase();
    let mention = ProducerRecord {
        key: None,
        partition: Some(5),
        value: Some(format!("[\"{upper}\"]").into_bytes()),
        ..ProducerRecord::default()
    };
    let others = [
        outgoing(Uuid::new_v4(), "other"),
        outgoing(id, "someone"),
        mention,
    ];
    env.kafka.write(&env.topic, &others).await.unwrap();
    env.wait_until_caught_up().await;

    let (topic, letters) = (json!(env.topic), json!(env.dead_letter_topic()));
    let (record, mention) = (json!("record"), json!("mention"));
    let before = report(&env, id, 1).await;
    let expected = [
        (&topic, &mention, true),
        (&topic, &record, true),
        (&letters, &mention, true),
    ];
    assert_eq!(kinds(&before), expected, "{before}");
    assert_eq!(before["rows"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&before["erased"], &before["tombstones"]),
        (&json!(false), &json!([]))
    );
    assert!(before["on_disk_until_at_least"].is_null(), "{before}");

    env.kafka.write(&env.topic, &[tombstone(id)]).await.unwrap();
    env.wait_until_caught_up().await;
    let after = report(&env, id, 1).await;
    assert_eq!(kinds(&after), expected, "{after}");
    assert_eq!(after["rows"], json!([]));
    assert_eq!(after["tombstones"].as_array().unwrap().len(), 1);
    assert_eq!(after["gc_grace_seconds"], 864_000);
    assert!(after["on_disk_until_at_least"].is_string(), "{after}");
    let text = run_command(env.options(), &format!("erasure-report {id}"))
        .await
        .1;
    assert!(
        text.contains("copies: 3, rows: 0, tombstones: 1, erased: no")
            && text.contains("the key is still in 4 places"),
        "{text}"
    );

    let unknown = report(&env, Uuid::new_v4(), 0).await;
    assert_eq!(
        (&unknown["erased"], &unknown["copies"]),
        (&json!(true), &json!([]))
    );
    let erased = Uuid::new_v4();
    env.cassandra
        .run("ALTER TABLE {ks}.created_users WITH gc_grace_seconds = 0")
        .await
        .unwrap();
    env.kafka.write(&env.topic, &[tombstone(erased)]).await.unwrap();
    let tombstones = report(&env, erased, 0).await["tombstones"].clone();
    assert_eq!(
        tombstones.as_array().unwrap().len(),
        1,
        "only the tombstone is left"
    );
    let output = run_successfully(&env, &format!("erasure-report {erased}")).await;
    assert!(output.contains("erased: yes"), "{output}");
}
