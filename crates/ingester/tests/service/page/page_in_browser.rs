//! The web page in a headless browser against the real service: content, colours, keyboard, screen reader, phone layout
//! and authentication. A stub publisher keeps a run active during the checks.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::randomuser::RandomUserApi;
use tokio::task::block_in_place;

use crate::page::{DESKTOP, PHONE, assert_accessible, screenshots};
use crate::support::browser::Browser;
use crate::support::ingester_service::{IngesterService, path};
use crate::support::offline_api::start_api;
use crate::support::stub_publisher::{StubPublisher, StubResponse};
use crate::support::token_file::{TOKEN, tokens_file};

const LOADED: &str = "document.querySelectorAll('#runs tr').length > 0";

/// Computes the lowest contrast ratio of any text in a section, as WCAG defines it.
const CONTRAST: &str = r"(() => {
  const linear = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = colour => {
    const [red, green, blue] = colour.match(/\d+/g).map(value => linear(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const back = light(getComputedStyle(document.querySelector('section')).backgroundColor);
  const texts = [...document.querySelectorAll('section :is(h2, dt, dd, p, th, td)')];
  const lights = texts.map(text => light(getComputedStyle(text).color));
  return Math.min(...lights.map(text => (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05)));
})()";

struct Fixture {
    _api: RandomUserApi,
    _publisher: StubPublisher,
    service: IngesterService,
}

/// Starts a service with a complete, a failed and an active run.
async fn fixture() -> Fixture {
    let api = start_api().await;
    let publisher = StubPublisher::start().await;
    let settings = [
        ("schedule.cron", "0 0 29 2 *"),
        ("schedule.retries", "0"),
        ("publisher.max_in_flight", "1"),
    ];
    let service = IngesterService::start(&api.url(), &publisher.url(), &settings).await;
    let start = async |body: Value| service.send(Method::POST, "/v1/runs", body).await.1;
    let first = start(json!({"users": 15})).await;
    service.wait_for_state(&first, "complete").await;
    publisher.respond_with([StubResponse::Problem(415, "<b>not</b> this")]);
    let second = start(Value::Null).await;
    service.wait_for_state(&second, "failed").await;
    publisher.respond_with([StubResponse::Hang]);
    let third = start(json!({"users": 5000})).await;
    service
        .wait_for(&path(&third), |run| run["counts"]["fetched"] == 10)
        .await;
    Fixture {
        _api: api,
        _publisher: publisher,
        service,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_shows_schedule_and_runs_at_any_width_and_scheme() {
    let mut browser = block_in_place(Browser::start);
    let fixture = fixture().await;
    let url = fixture.service.page();
    block_in_place(|| {
        let light = ["rgb(26, 127, 55)", "rgb(207, 34, 46)", "rgb(9, 105, 218)"];
        let dark = ["rgb(63, 185, 80)", "rgb(255, 123, 114)", "rgb(88, 166, 255)"];
        for (size, scheme, colours) in [(DESKTOP, "light", light), (PHONE, "dark", dark)] {
            browser.show(&url, size, scheme);
            browser.until(LOADED);
            assert_content(&mut browser);
            let bars = "[...document.querySelectorAll('#bars li')].map(bar => getComputedStyle(bar).backgroundColor)";
            assert_eq!(browser.value(bars), json!(colours), "{scheme}");
            let states = "[...document.querySelectorAll('td.state')].map(state => getComputedStyle(state).color).reverse()";
            assert_eq!(browser.value(states), json!(colours), "{scheme}");
            let contrast = browser.value(CONTRAST).as_f64().unwrap();
            assert!(contrast >= 4.5, "{scheme}: {contrast}");
            let dark = browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)";
            assert_eq!(dark, scheme == "dark");
            assert_eq!(
                browser.value("document.documentElement.scrollWidth"),
                size.0,
                "the page does not scroll sideways"
            );
            if size == PHONE {
                assert_fits_phone(&mut browser);
            }
            let least = "Math.min(...[...document.querySelectorAll('button')].map(it => it.offsetHeight).filter(it => it))";
            assert!(
                browser.value(least).as_f64().unwrap() >= 44.0,
                "touch targets are large enough"
            );
            assert_accessible(&mut browser, &format!("{}, {scheme}", size.0));
            browser.screenshot(&screenshots().join(format!("running-{}-{scheme}.png", size.0)));
        }
    });
}

/// Asserts that on a phone each run fits the width and stays a table row for screen readers.
fn assert_fits_phone(browser: &mut Browser) {
    let right = "Math.max(...[...document.querySelectorAll('#runs tr > *')].map(cell => cell.getBoundingClientRect().right))";
    assert!(browser.value(right).as_f64().unwrap() <= f64::from(PHONE.0));
    assert_eq!(
        browser.value(
            "document.querySelector('.wide').scrollWidth <= document.querySelector('.wide').clientWidth"
        ),
        true
    );
    assert_announced(&browser.accessibility_nodes());
}

fn assert_content(browser: &mut Browser) {
    let text = |browser: &mut Browser, id: &str| {
        let text = browser.value(&format!("document.getElementById('{id}').innerText"));
        text.as_str().unwrap().to_owned()
    };
    assert_eq!(text(browser, "recurrence"), "0 0 29 2 * (UTC)");
    // The date format depends on the browser's locale; the year does not.
    let leap_day = |year: i16| {
        jiff::civil::Date::new(year, 2, 29)
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
    };
    let now = jiff::Zoned::now();
    let next = (now.year()..)
        .find(|year| leap_day(*year).is_some_and(|day| day > now))
        .unwrap();
    assert!(text(browser, "next").contains(&next.to_string()));
    let runs = text(browser, "runs");
    for word in ["complete", "failed", "running", "manual", "<b>not</b> this"] {
        assert!(runs.contains(word), "{word}: {runs}");
    }
    let counts = text(browser, "counts");
    assert!(
        counts.contains("Requested\n5,000") && counts.contains("Fetched\n10"),
        "{counts}"
    );
    assert_eq!(browser.value("document.getElementById('current').hidden"), false);
    browser.until("followed === running");
}

#[tokio::test(flavor = "multi_thread")]
async fn page_supports_keyboard_and_screen_reader() {
    let mut browser = block_in_place(Browser::start);
    let fixture = fixture().await;
    let url = fixture.service.page();
    block_in_place(|| {
        browser.show(&url, DESKTOP, "light");
        browser.until(LOADED);
        assert_announced(&browser.accessibility_nodes());
        let mut order = Vec::new();
        for _ in 0..6 {
            browser.press("Tab");
            let focused = browser.value("document.activeElement.id || document.activeElement.role");
            order.push(focused.as_str().unwrap().to_owned());
            let outline = browser.value("getComputedStyle(document.activeElement).outline");
            assert_eq!(outline, "rgb(9, 105, 218) solid 3px", "{order:?}");
        }
        assert_eq!(
            order,
            ["start", "with-parameters", "stop", "pause", "filter", "list"]
        );

        browser.value("at('start').focus()");
        browser.press("Enter");
        browser.until("at('message').textContent === 'Run requested.'");
        browser.value("at('pause').focus()");
        for message in ["Schedule paused.", "Schedule resumed."] {
            browser.press("Enter");
            browser.until(&format!("at('message').textContent === '{message}'"));
            browser.until("document.activeElement.id === 'pause'");
        }
        browser.value("at('stop').focus()");
        browser.press("Enter");
        browser.until("at('message').textContent === 'The run is being cancelled.'");
    });
}

/// Asserts what a screen reader announces.
fn assert_announced(nodes: &[(String, String, String)]) {
    let announced = |role: &str, name: &str| nodes.iter().any(|node| node.0 == role && node.1 == name);
    for (role, name) in [
        ("heading", "Affluent pipeline"),
        ("heading", "State of the pipeline"),
        ("heading", "Schedule"),
        ("heading", "Current run"),
        ("heading", "Latest runs"),
        ("button", "Start run"),
        ("button", "Pause schedule"),
        ("button", "Cancel run"),
        ("progressbar", "users delivered"),
        ("region", "Latest runs"),
        ("region", "Table of the latest runs"),
    ] {
        assert!(announced(role, name), "{role} {name}: {nodes:?}");
    }
    for column in [
        "Started",
        "State",
        "Duration",
        "Trigger",
        "Fetched",
        "Accepted",
        "Rate limited",
        "Reason",
    ] {
        assert!(announced("columnheader", column), "{column}: {nodes:?}");
    }
    let count = |role: &str| nodes.iter().filter(|node| node.0 == role).count();
    assert_eq!((count("rowheader"), count("main"), count("banner")), (3, 1, 1));
    let live: Vec<_> = nodes
        .iter()
        .filter(|node| node.0 == "status")
        .map(|node| node.2.as_str())
        .collect();
    assert_eq!(live, ["polite", "polite"], "the message and the counts");
    assert!(
        nodes
            .iter()
            .any(|node| node.1 == "10 of 5,000 users fetched, 0 accepted"),
        "{nodes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn page_asks_for_a_token_and_follows_a_run_with_it() {
    let mut browser = block_in_place(Browser::start);
    let (api, publisher) = (start_api().await, StubPublisher::start().await);
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    let settings = [
        ("auth.tokens_path", tokens.as_str()),
        ("publisher.max_in_flight", "1"),
    ];
    let service = IngesterService::start(&api.url(), &publisher.url(), &settings)
        .await
        .with_token(TOKEN);
    publisher.respond_with([StubResponse::Hang]);
    let (_, run) = service
        .send(Method::POST, "/v1/runs", json!({"users": 5000}))
        .await;
    service
        .wait_for(&path(&run), |run| run["counts"]["fetched"] == 10)
        .await;
    let url = service.page();
    block_in_place(|| {
        browser.show(&url, PHONE, "light");
        browser.until("document.activeElement.id === 'token'");
        assert_eq!(browser.value("at('runs').children.length"), 0);
        browser.screenshot(&screenshots().join("token-390.png"));
        browser.write("wrong");
        browser.press("Enter");
        browser.until(
            "at('message').textContent === 'The ingester rejected the request: the token is not valid'",
        );
        browser.value("at('token').focus()");
        browser.write(TOKEN);
        browser.press("Enter");
        browser.until(LOADED);
        browser.until("at('sign-in').hidden && at('message').textContent === ''");
        browser.until("followed === running && followed !== null");
        browser.until("at('recurrence').textContent === 'off: runs start on request'");
        assert!(
            !browser
                .value("document.documentElement.outerHTML")
                .as_str()
                .unwrap()
                .contains(TOKEN)
        );
    });
    let cancelled = service.send(Method::DELETE, &path(&run), Value::Null).await;
    assert_eq!(cancelled.0.as_u16(), 202);
}
