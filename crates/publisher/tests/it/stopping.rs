//! The end of the process, asked for or not: what was acknowledged is in the topic.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::broker;
use crate::load::Load;
use crate::running::{Publisher, ready, setup};
use crate::topic::Topic;
use crate::users::{user, users};

async fn under_load() -> (Publisher, Topic, Load) {
    let (publisher, topic) = ready().await;
    let load = Load::start(&publisher, 8);
    publisher
        .wait_until("under load", async || load.count(200) > 100)
        .await;
    (publisher, topic, load)
}

#[tokio::test]
async fn sigterm_under_load_answers_what_was_taken_and_ends_with_0() {
    let (publisher, topic, mut load) = under_load().await;
    let status = publisher.child.terminate(Duration::from_secs(25)).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", publisher.child.last_lines(10));
    load.stop().await;
    assert_eq!(load.count(504), 0);
    load.assert_no_answer_lied(&topic).await;
    load.assert_what_was_taken_was_answered(&topic).await;
}

#[tokio::test]
async fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let (publisher, topic, mut load) = under_load().await;
    publisher.child.kill().await.unwrap();
    load.stop().await;
    load.assert_no_answer_lied(&topic).await;
}

#[tokio::test]
async fn sigterm_while_kafka_is_silent_answers_504_and_ends_with_0() {
    let kafka = broker::own().await;
    let topic = Topic::fresh(&kafka.bootstrap());
    let publisher = setup(&topic.brokers, &topic.name).start().await;
    publisher.wait_until_ready().await;
    assert_eq!(publisher.send(&users(1)).await.0, 200);
    kafka.node(0).unwrap().freeze().await.unwrap();
    let records = users(5);
    let stopping = async {
        publisher
            .wait_until("taken", async || {
                publisher.metric("records_in_flight").await == 5.0
            })
            .await;
        publisher.child.terminate(Duration::from_secs(20)).await.unwrap()
    };
    let (answer, status) = tokio::join!(publisher.send(&records), stopping);
    assert_eq!((answer.0, &answer.1["unknown"]), (504, &serde_json::json!(5)));
    assert_eq!(status.code(), Some(0), "{}", publisher.child.last_lines(10));
}

#[tokio::test]
async fn what_comes_too_late_on_an_open_connection_is_refused_and_the_connection_closed() {
    let (publisher, topic) = ready().await;
    let body = user().to_string();
    let address = publisher.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    publisher
        .wait_until("reading", async || {
            publisher.metric("requests_in_flight").await == 1.0
        })
        .await;
    let stopping = publisher.child.terminate(Duration::from_secs(20));
    let late = async {
        publisher
            .wait_until("stopping", async || {
                publisher.readiness().await.1["stopping"] == true
            })
            .await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        heard
    };
    let (status, heard) = tokio::join!(stopping, late);
    assert_eq!(
        status.unwrap().code(),
        Some(0),
        "{}",
        publisher.child.last_lines(10)
    );
    assert!(heard.starts_with("HTTP/1.1 503"), "{heard}");
    assert!(
        heard.contains("connection: close") && heard.contains("problem:stopping"),
        "{heard}"
    );
    assert!(topic.read().await.is_empty());
}
