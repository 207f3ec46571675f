//! Compressed bodies.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::support::publisher_process::{ready, status_and_body};
use crate::support::sample_users::{ids, users};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 1).unwrap()
}

#[tokio::test]
async fn gzip_and_zstd_are_accepted() {
    let (publisher, topic) = ready().await;
    let mut sent = Vec::new();
    for (encoding, compress) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd)] {
        let users = users(500);
        let body = compress(&serde_json::to_vec(&users).unwrap());
        let request = publisher
            .post("application/json", body)
            .header("content-encoding", encoding);
        assert_eq!(
            status_and_body(request).await,
            (200, json!({"accepted": 500, "rejected": 0}))
        );
        sent.extend(ids(&users));
    }
    assert_eq!(topic.ids().await, sent.into_iter().collect());
    publisher.wait_until_idle().await;
}

#[tokio::test]
async fn bombs_and_corrupt_bodies_are_rejected() {
    let (publisher, topic) = ready().await;
    let resident = async || {
        let metrics = publisher
            .client
            .get(format!("{}/metrics", publisher.admin))
            .send();
        let text = metrics.await.unwrap().text().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        line.unwrap().parse::<f64>().unwrap()
    };
    let before = resident().await;
    let spaces = vec![b' '; 256 << 20];
    let bombs = [("gzip", gzip(&spaces)), ("zstd", zstd(&spaces))];
    drop(spaces);
    for (encoding, bomb) in bombs {
        let request = publisher
            .post("application/json", bomb)
            .header("content-encoding", encoding);
        let (status, body) = status_and_body(request).await;
        assert_eq!(
            (status, &body["type"]),
            (413, &json!("urn:affluent:problem:body-too-large"))
        );
        let corrupt = publisher
            .post("application/json", "[]")
            .header("content-encoding", encoding);
        let (status, body) = status_and_body(corrupt).await;
        assert_eq!(
            (status, &body["type"]),
            (400, &json!("urn:affluent:problem:bad-encoding"))
        );
    }
    assert!(
        resident().await < before + 64e6,
        "{} → {}",
        before,
        resident().await
    );
    let several = publisher
        .post("application/json", "[]")
        .header("content-encoding", "gzip, zstd");
    let response = several.send().await.unwrap();
    assert_eq!(response.status(), 415);
    assert_eq!(response.headers()["accept-encoding"], "gzip, zstd");
    assert!(topic.read().await.is_empty());
    publisher.wait_until_idle().await;
}
