//! The page in a real headless browser, against the real service.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use testbed::randomuser::{Options, RandomUserApi};

use crate::door::{Answer, Door};
use crate::runs::{Service, path};

const DEADLINE: Duration = Duration::from_secs(60);

/// What Chromium makes of the page, or nothing where there is no Chromium. It looks again, up to a deadline, until the
/// page has heard of its runs: on a busy machine the browser gives its answer before the page has had its.
fn rendered(url: &str, profile: &Path) -> Option<String> {
    let until = Instant::now() + DEADLINE;
    loop {
        let page = dumped(url, profile)?;
        if page.contains("</td>") {
            return Some(page);
        }
        assert!(Instant::now() < until, "the page shows no runs: {page}");
    }
}

fn dumped(url: &str, profile: &Path) -> Option<String> {
    // A browser that hangs must not hang the tests.
    let output = Command::new("timeout")
        .args(["--kill-after=5", "30", "chromium"])
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        // It is to ask for our page and for nothing else.
        .args([
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args(["--timeout=3000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    // What `timeout` says of a program that is not there.
    if output.status.code() == Some(127) {
        eprintln!("passed over: no chromium");
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_schedule_the_run_under_way_and_the_latest_runs() {
    let api = RandomUserApi::start(Options::default()).await.unwrap();
    let door = Door::open().await;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(&api.url(), &door.url(), &[]).await;
    let ask = async |body: Value| service.send(Method::POST, "/v1/runs", body).await.1;
    let first = ask(json!({"users": 15})).await;
    service
        .until(&path(&first), |run| run["state"] == "complete")
        .await;
    door.answer([Answer::Says(415, None, json!({"title": "<b>not</b> this"}))]);
    let second = ask(Value::Null).await;
    service
        .until(&path(&second), |run| run["state"] == "failed")
        .await;
    door.answer([Answer::Hangs]);
    let third = ask(json!({"users": 5000})).await;
    service
        .until(&path(&third), |run| run["counts"]["fetched"] == 10)
        .await;
    let url = format!("{}/", service.url);
    let profile = folder.path().to_owned();
    let page = tokio::task::spawn_blocking(move || rendered(&url, &profile));
    let Some(page) = page.await.unwrap() else { return };
    assert!(page.contains("0 0 29 2 * (UTC)"), "{page}");
    for state in ["complete", "failed", "running"] {
        assert!(
            page.contains(&format!("<td class=\"state\">{state}</td>")),
            "{state}: {page}"
        );
    }
    assert!(
        page.contains("&lt;b&gt;not&lt;/b&gt; this"),
        "what others say is text: {page}"
    );
    assert!(
        page.contains("<section id=\"now\" aria-labelledby"),
        "not hidden: {page}"
    );
    assert!(page.contains(">Fetched</dt><dd class=\"\">10</dd>"), "{page}");
}
