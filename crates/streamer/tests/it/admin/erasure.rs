//! The retention of dead letters.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use testkit::service::Service;

use crate::support::commands::run_command;
use crate::support::test_env::{DEADLINE, TestEnv};

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
    assert_eq!(settings(&env, &letters, names).await, expected);
    let (_, output) = run_command(options, "dead-letters retention").await;
    assert!(output.contains("is as configured"), "{output}");
}
