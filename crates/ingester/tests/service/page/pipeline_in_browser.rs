//! The web page in a headless browser with status documents of the other services: the state of each stage, the figures, lag,
//! dead letters, the details of a run, and starting runs. In each state it is accessible and fits the width.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::randomuser::RandomUserApi;
use tokio::task::block_in_place;

use crate::page::{DESKTOP, PHONE, assert_accessible, screenshots};
use crate::support::browser::Browser;
use crate::support::ingester_service::IngesterService;
use crate::support::offline_api::start_api;
use crate::support::stub_publisher::{StubPublisher, StubResponse};
use crate::support::stub_status::{self, StubStatus};

/// The text of each stage.
const STAGES: &str = "[...at('stages').children].map(stage => stage.innerText.replace(/\\s+/g, ' '))";
const FIGURES: &str = "[...at('figures').children].map(figure => figure.innerText.replace(/\\s+/g, ' '))";

/// Keeps what a screen reader is told, because counts replace it after some seconds.
const RECORD_ANNOUNCEMENTS: &str = "window.said = [], new MutationObserver(() => said.push(at('announcement').textContent))\
                                    .observe(at('announcement'), {childList: true})";

struct Fixture {
    _api: RandomUserApi,
    publisher: StubPublisher,
    streamer: StubStatus,
    service: IngesterService,
}

/// A service with pages of five users and a limit of one page in an hour.
async fn fixture() -> Fixture {
    let api = start_api().await;
    let publisher = StubPublisher::start().await;
    let admin = StubStatus::start(stub_status::publisher()).await;
    let streamer = StubStatus::start(stub_status::streamer(None)).await;
    let settings = [
        ("schedule.retries", "0"),
        ("run.users", "5"),
        ("source.rate_limit.users", "5"),
        // Longer than the test on any machine.
        ("source.rate_limit.window", "1h"),
        ("pipeline.publisher_url", admin.url.as_str()),
        ("pipeline.streamer_url", streamer.url.as_str()),
    ];
    Fixture {
        service: IngesterService::start(&api.url(), &publisher.url(), &settings).await,
        _api: api,
        publisher,
        streamer,
    }
}

/// Shows the page at both widths, in one colour scheme each, once `condition` holds.
fn assert_state(browser: &mut Browser, url: &str, name: &str, condition: &str) {
    for (size, scheme) in [(PHONE, "light"), (DESKTOP, "dark")] {
        browser.show(url, size, scheme);
        browser.until(&format!("at('stages').children.length === 6 && ({condition})"));
        assert_accessible(browser, &format!("{name}, {}, {scheme}", size.0));
        let width = browser.value("document.documentElement.scrollWidth");
        assert_eq!(width, size.0, "{name}: the page does not scroll sideways");
        browser.screenshot(&screenshots().join(format!("{name}-{}-{scheme}.png", size.0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_shows_an_empty_state_and_a_failed_run() {
    let mut browser = block_in_place(Browser::start);
    let fixture = fixture().await;
    let url = fixture.service.page();
    block_in_place(|| assert_state(&mut browser, &url, "empty", "!at('none').hidden"));
    assert_eq!(
        block_in_place(|| browser.value(STAGES))[0],
        "API unknown no request was sent yet 0/s to Ingester"
    );

    fixture
        .publisher
        .respond_with([StubResponse::Problem(415, "<b>not</b> this")]);
    let failed = fixture
        .service
        .send(Method::POST, "/v1/runs", Value::Null)
        .await
        .1;
    fixture.service.wait_for_state(&failed, "failed").await;
    block_in_place(|| assert_state(&mut browser, &url, "failed", "at('runs').rows.length === 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn page_shows_why_a_run_waits_and_what_is_down() {
    let mut browser = block_in_place(Browser::start);
    let fixture = fixture().await;
    let url = fixture.service.page();
    let start = async || {
        fixture
            .service
            .send(Method::POST, "/v1/runs", Value::Null)
            .await
            .1
    };
    let first = start().await;
    fixture.service.wait_for_state(&first, "complete").await;
    // The limit of one page in an hour is used up.
    start().await;
    block_in_place(|| {
        assert_state(&mut browser, &url, "waiting", "!at('waits').hidden");
        let stages = browser.value(STAGES);
        let source = stages[0].as_str().unwrap();
        assert!(
            source.starts_with("API waiting API rate limit until "),
            "{source}"
        );
        let publisher = [&stages[2], &stages[3], &stages[4], &stages[5]];
        let expected = [
            "Publisher ok 13/s to Kafka",
            "Kafka ok 11/s to Streamer",
            "Streamer ok 10/s to Cassandra",
            "Cassandra ok",
        ];
        assert_eq!(publisher, expected);
        let waits = browser.value("at('waits').textContent");
        assert!(
            waits.as_str().unwrap().starts_with("API rate limit until "),
            "{waits}"
        );
        let pace = browser.value("at('pace').textContent");
        let pace = pace.as_str().unwrap();
        assert!(
            pace.starts_with("0 %, ") && pace.contains(" users/s, ") && pace.ends_with(" left"),
            "{pace}"
        );
        let figures = browser.value(FIGURES);
        assert_eq!(figures[0], "Freshness, p99 43 ms API to row, last minute");
        assert_eq!(figures[1], "Lag 48,213 records; partitions halted: 1");
        assert_eq!(figures[2], "Dead letters, 24 h 13 records");
        let success = figures[3].as_str().unwrap();
        assert!(
            success.starts_with("Last successful run ") && success.contains(" ago "),
            "{success}"
        );
    });
    let (_, status) = fixture.service.ingester.get("/status").await.unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    let waits = status["run"]["waits_for"].as_str().unwrap();
    assert!(waits.starts_with("API rate limit until "), "{status}");
    assert!(status["last_success_at"].is_string(), "{status}");
    assert_eq!(status["schedule"]["paused"], false);

    block_in_place(|| browser.value(RECORD_ANNOUNCEMENTS));
    let outage = "127.0.0.1:9042: failed to connect: connection refused";
    fixture.streamer.set(stub_status::streamer(Some(outage)));
    block_in_place(|| {
        browser.until("said.some(text => text.includes('Cassandra: down, streamer: 127.0.0.1:9042'))");
        let down = format!("{STAGES}[5].startsWith('Cassandra down')");
        assert_state(&mut browser, &url, "cassandra-down", &down);
        let stages = browser.value(STAGES);
        assert_eq!(
            stages[4],
            "Streamer waiting it waits for Cassandra 10/s to Cassandra"
        );
        assert_eq!(stages[5], format!("Cassandra down streamer: {outage}"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn run_can_be_inspected_repeated_and_parameterized() {
    let mut browser = block_in_place(Browser::start);
    let fixture = fixture().await;
    fixture.publisher.respond_with([StubResponse::RejectFirst]);
    let run = fixture
        .service
        .send(Method::POST, "/v1/runs", json!({"seed": "abc"}))
        .await
        .1;
    fixture.service.wait_for_state(&run, "rejected").await;
    block_in_place(|| {
        browser.show(&fixture.service.page(), DESKTOP, "light");
        browser.until("at('runs').rows.length === 1");
        browser.value("at('runs').querySelector('button').focus()");
        browser.press("Enter");
        browser.until("at('details').open && document.activeElement.id === 'close'");
        let facts = browser.value("at('details').innerText");
        let facts = facts.as_str().unwrap();
        for fact in [
            run["id"].as_str().unwrap(),
            "rejected",
            "manual by anonymous",
            "abc",
            "Accepted\n4",
            "Rejected records",
        ] {
            assert!(facts.contains(fact), "{fact}: {facts}");
        }
        assert_eq!(browser.value("at('rejected').rows.length"), 1);
        assert_accessible(&mut browser, "details");
        browser.screenshot(&screenshots().join("details-1280-light.png"));
        browser.press("Escape");
        browser.until("!at('details').open && document.activeElement.dataset.key === at('runs').querySelector('button').dataset.key");

        browser.press("Enter");
        browser.until("at('details').open");
        browser.value("at('again').focus()");
        browser.press("Enter");
        browser.until("at('message').textContent === 'Run requested.'");

        browser.value("at('parameters').open = true");
        browser.value("at('users').focus()");
        browser.write("7");
        browser.value("at('seed').focus()");
        browser.write("xyz");
        browser.press("Enter");
        browser.until("at('runs').rows.length === 3");

        browser.value("at('filter').value = 'rejected', at('filter').dispatchEvent(new Event('change'))");
        browser
            .until("at('runs').rows.length === 1 && at('runs').rows[0].cells[0].textContent === 'rejected'");
        // The active run is shown although the filter hides it.
        assert_eq!(browser.value("at('current').hidden"), false);

        browser.value("at('reasons').querySelector('button').focus()");
        browser.press("Enter");
        browser.until("/^(Copied: streamer redrive --dry-run|Press Ctrl)/.test(at('message').textContent)");
    });
    let runs = fixture.service.get("/v1/runs").await;
    let spec = |index: usize| json!([runs["runs"][index]["users"], runs["runs"][index]["seed"]]);
    assert_eq!([spec(0), spec(1)], [json!([7, "xyz"]), json!([5, "abc"])]);
}
