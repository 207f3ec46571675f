//! Third-party clients: curl and Python's `http.client`.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::publisher_process::ready;
use crate::support::sample_users::{ids, users};

/// Runs a program with `input` on its standard input and returns its output.
async fn output(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("failed to start {program}, which this test requires: {error}"));
    child.stdin.take().unwrap().write_all(input).await.unwrap();
    let output = timeout(Duration::from_secs(30), child.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    assert!(output.status.success(), "{program}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn curl_posts_with_both_http_versions() {
    let (publisher, topic) = ready().await;
    let users = users(2_000);
    let body = serde_json::to_vec(&users).unwrap();
    let url = format!("{}/v1/users", publisher.url);
    // As curl does by itself for a body above 1 MB.
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let arguments = [
            "-sS",
            version,
            "-H",
            "Content-Type: application/json",
            "-H",
            "Expect: 100-continue",
            "--data-binary",
            "@-",
            &url,
        ];
        let summary: Value = serde_json::from_str(&output("curl", &arguments, &body).await).unwrap();
        assert_eq!(summary, json!({"accepted": 2_000, "rejected": 0}), "{version}");
    }
    assert_eq!(topic.ids().await, ids(&users).into_iter().collect());
    assert_eq!(topic.read().await.len(), 4_000);
}

#[tokio::test]
async fn python_client_posts_chunked_bodies() {
    const CLIENT: &str = "
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=20)
lines = sys.stdin.buffer.read().splitlines(keepends=True)
for part in (lines[:50], lines[50:]):
    # An iterator is sent in chunks, without Content-Length.
    connection.request('POST', '/v1/users', iter(part), {'Content-Type': 'application/x-ndjson'})
    response = connection.getresponse()
    print(response.status, response.read().decode())
";
    let (publisher, topic) = ready().await;
    let users = users(100);
    let lines: String = users.iter().map(|user| format!("{user}\n")).collect();
    let address = publisher.url.trim_start_matches("http://");
    let printed = output("python3", &["-c", CLIENT, address], lines.as_bytes()).await;
    assert_eq!(printed, "200 {\"accepted\":50,\"rejected\":0}\n".repeat(2));
    assert_eq!(topic.ids().await, ids(&users).into_iter().collect());
}

/// Far more than a rejected body of which the publisher reads a part over HTTP/1.
#[tokio::test]
async fn curl_receives_refusals_of_large_bodies() {
    let (publisher, topic) = ready().await;
    let body = vec![b' '; 60 << 20];
    for (path, content_type, status) in [
        ("/v1/users", "application/json", "413"),
        ("/v1/users", "text/plain", "415"),
        ("/v1/nothing", "application/json", "404"),
    ] {
        let (url, header) = (
            format!("{}{path}", publisher.url),
            format!("content-type: {content_type}"),
        );
        let arguments = [
            "-sS",
            "--http2-prior-knowledge",
            "-H",
            &header,
            "--data-binary",
            "@-",
        ];
        let arguments = [&arguments[..], &["-o", "/dev/null", "-w", "%{http_code}", &url]].concat();
        assert_eq!(output("curl", &arguments, &body).await, status, "{path}");
    }
    assert!(topic.read().await.is_empty());
    publisher.wait_until_idle().await;
}
