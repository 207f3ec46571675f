//! The web page in a headless browser with real publisher and Kafka: a button starts a run, the page follows it, and
//! another button stops it. The counts on the page equal the contents of the topic.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::randomuser::{Options, RandomUserApi};
use tokio::task::block_in_place;

use crate::page::{DESKTOP, PHONE, screenshots};
use crate::support::browser::Browser;
use crate::support::ingester_service::IngesterService;
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

/// The schedule and the next start are shown.
const LOADED: &str = "at('recurrence').textContent.length > 4";
/// The cells of the first row of the run table.
const LATEST: &str = "[...at('runs').rows[0].cells].map(cell => cell.textContent)";

/// Returns an expression for one count of the current run.
fn count(name: &str) -> String {
    format!(
        "Number([...at('counts').children].find(pair => pair.firstChild.textContent === '{name}')\
         .lastChild.textContent.replace(/\\D/g, ''))"
    )
}

/// Focuses a button and presses it.
fn push(browser: &mut Browser, button: &str) {
    browser.value(&format!("at('{button}').focus()"));
    browser.press("Enter");
}

#[tokio::test(flavor = "multi_thread")]
async fn button_starts_a_run_that_is_followed_until_complete() {
    let mut browser = block_in_place(Browser::start);
    let (api, stack) = (start_api().await, PublisherStack::start().await);
    // The second page waits for the rate limit, and both wait for the publisher.
    let settings = [
        ("source.rate_limit.users", "5"),
        ("source.rate_limit.window", "3s"),
    ];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let publisher = stack.publisher.child().unwrap();
    publisher.freeze().await.unwrap();
    block_in_place(|| {
        browser.show(&service.page(), PHONE, "dark");
        browser.until(LOADED);
        assert_eq!(
            browser.value("[at('current').hidden, at('runs').rows.length]"),
            json!([true, 0])
        );
        push(&mut browser, "start");
        browser.until("at('message').textContent === 'Run requested.'");
        browser.until(&format!("!at('current').hidden && {} === 10", count("Fetched")));
        assert_eq!(browser.value(&count("Accepted")), 0);
        assert_eq!(browser.value(&count("Pending")), 10);
        assert!(browser.value(&count("Rate limit wait, s")).as_u64().unwrap() >= 1);
        browser.until(&format!("{LATEST}[0] === 'running'"));
        browser.screenshot(&screenshots().join("live-390.png"));
    });
    publisher.thaw().unwrap();
    block_in_place(|| {
        let ended = "Run ended: complete, 10 of 10 users accepted.";
        browser.until(&format!("at('message').textContent === '{ended}'"));
        browser.until(&format!("at('current').hidden && {LATEST}[0] === 'complete'"));
        let row = browser.value(LATEST);
        assert_eq!(json!([row[3], row[4], row[5]]), json!(["manual", "10", "10"]));
        assert_ne!(row[6], "0 s", "it waited for the rate limit");
        let accessibility_nodes = browser.accessibility_nodes();
        let announces = |node: &(String, String, String)| node.1 == ended;
        assert!(
            accessibility_nodes.iter().any(announces),
            "{accessibility_nodes:?}"
        );
        browser.screenshot(&screenshots().join("ended-390.png"));
    });
    let runs = service.get("/v1/runs").await;
    let id = runs["runs"][0]["id"].as_str().unwrap();
    assert_eq!(stack.records_of(id).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_a_long_run_rise_and_a_button_stops_it() {
    let mut browser = block_in_place(Browser::start);
    let (api, stack) = (
        RandomUserApi::start(Options::unlimited()).await.unwrap(),
        PublisherStack::start().await,
    );
    let settings = [("run.users", "1000000"), ("source.rate_limit.users", "10000000")];
    let service = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    block_in_place(|| {
        browser.show(&service.page(), DESKTOP, "light");
        browser.until(LOADED);
        push(&mut browser, "start");
        let (accepted, done) = (count("Accepted"), "at('done').value");
        browser.until(&format!("{accepted} > 0"));
        for _ in 0..3 {
            let before = browser.value(&format!("[{accepted}, {done}]"));
            browser.until(&format!("{accepted} > {} && {done} > {}", before[0], before[1]));
        }
        browser.until(&format!("{LATEST}[0] === 'running'"));
        browser.screenshot(&screenshots().join("live-1280.png"));
        push(&mut browser, "stop");
        browser.until("at('message').textContent.startsWith('Run ended: cancelled, ')");
        browser.until(&format!("at('current').hidden && {LATEST}[0] === 'cancelled'"));
        assert_eq!(
            browser.value("document.activeElement.id"),
            "start",
            "focus moved off the hidden button"
        );
    });
    let runs = service.send(Method::GET, "/v1/runs", Value::Null).await.1;
    let run = &runs["runs"][0];
    let shown = block_in_place(|| browser.value(&format!("{LATEST}[5].replace(/\\D/g, '')")));
    let records = stack.records_of(run["id"].as_str().unwrap()).await.len();
    assert_eq!(
        (&run["counts"]["accepted"], shown),
        (&json!(records), json!(records.to_string()))
    );
}
