//! The page in a real headless browser, against the real service: what it shows, in which colours, by keyboard, to a
//! screen reader, on a phone, and behind a token. The publisher is a stand-in, so that a run hangs as long as is looked.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::randomuser::{Options, RandomUserApi};
use tokio::task::block_in_place;

use crate::authentication::{TOKEN, tokens_file};
use crate::browser::Browser;
use crate::ingester_service::{IngesterService, path};
use crate::stub_publisher::{StubPublisher, StubResponse};

pub(crate) const DESKTOP: (u32, u32) = (1100, 800);
pub(crate) const PHONE: (u32, u32) = (360, 740);
const LOADED: &str = "document.querySelectorAll('#runs tr').length > 0";

/// The least contrast of any text in a section, as the accessibility guidelines reckon it.
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

struct Scene {
    _api: RandomUserApi,
    _publisher: StubPublisher,
    service: IngesterService,
}

/// A service with a run that is complete, one that failed and one under way.
async fn scene() -> Scene {
    let api = RandomUserApi::start(Options::default()).await.unwrap();
    let publisher = StubPublisher::start().await;
    let settings = [("SCHEDULE__RETRIES", "0"), ("PUBLISHER__MAX_IN_FLIGHT", "1")];
    let service = IngesterService::start(&api.url(), &publisher.url(), &settings).await;
    let ask = async |body: Value| service.send(Method::POST, "/v1/runs", body).await.1;
    let first = ask(json!({"users": 15})).await;
    service
        .until(&path(&first), |run| run["state"] == "complete")
        .await;
    publisher.respond_with([StubResponse::Status(
        415,
        None,
        json!({"title": "<b>not</b> this"}),
    )]);
    let second = ask(Value::Null).await;
    service
        .until(&path(&second), |run| run["state"] == "failed")
        .await;
    publisher.respond_with([StubResponse::Hang]);
    let third = ask(json!({"users": 5000})).await;
    service
        .until(&path(&third), |run| run["counts"]["fetched"] == 10)
        .await;
    Scene {
        _api: api,
        _publisher: publisher,
        service,
    }
}

pub(crate) fn pictures() -> PathBuf {
    let folder = testkit::workspace::target_dir().unwrap().join("page");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_schedule_run_and_history_in_the_colours_of_their_outcome_at_any_width() {
    let mut browser = block_in_place(Browser::start);
    let scene = scene().await;
    let url = format!("{}/", scene.service.url);
    block_in_place(|| {
        for (size, scheme, colours) in [
            (
                DESKTOP,
                "light",
                ["rgb(26, 127, 55)", "rgb(207, 34, 46)", "rgb(9, 105, 218)"],
            ),
            (
                PHONE,
                "light",
                ["rgb(26, 127, 55)", "rgb(207, 34, 46)", "rgb(9, 105, 218)"],
            ),
            (
                DESKTOP,
                "dark",
                ["rgb(63, 185, 80)", "rgb(255, 123, 114)", "rgb(88, 166, 255)"],
            ),
            (
                PHONE,
                "dark",
                ["rgb(63, 185, 80)", "rgb(255, 123, 114)", "rgb(88, 166, 255)"],
            ),
        ] {
            browser.show(&url, size, scheme);
            browser.until(LOADED);
            shows_everything(&mut browser);
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
                "nothing but the table, where there is room for one, scrolls sideways"
            );
            if size == PHONE {
                nothing_is_cut_off(&mut browser);
            }
            let least = "Math.min(...[...document.querySelectorAll('button')].map(it => it.offsetHeight).filter(it => it))";
            assert!(
                browser.value(least).as_f64().unwrap() >= 44.0,
                "large enough for a finger"
            );
            browser.picture(&pictures().join(format!("{scheme}-{}.png", size.0)));
        }
    });
}

/// On a phone each run stands in lines of its own, and is a row of a table all the same for who listens.
fn nothing_is_cut_off(browser: &mut Browser) {
    let right = "Math.max(...[...document.querySelectorAll('#runs tr > *')].map(cell => cell.getBoundingClientRect().right))";
    assert!(browser.value(right).as_f64().unwrap() <= f64::from(PHONE.0));
    assert_eq!(
        browser.value(
            "document.querySelector('.wide').scrollWidth <= document.querySelector('.wide').clientWidth"
        ),
        true
    );
    is_told(&browser.spoken());
}

fn shows_everything(browser: &mut Browser) {
    let text = |browser: &mut Browser, id: &str| {
        let text = browser.value(&format!("document.getElementById('{id}').innerText"));
        text.as_str().unwrap().to_owned()
    };
    assert_eq!(text(browser, "rhythm"), "0 0 29 2 * (UTC)");
    // What the browser makes of it is its language's; the year is the same in each.
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
    assert_eq!(browser.value("document.getElementById('now').hidden"), false);
    browser.until("followed === running");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_worked_by_keyboard_and_told_to_a_screen_reader() {
    let mut browser = block_in_place(Browser::start);
    let scene = scene().await;
    let url = format!("{}/", scene.service.url);
    block_in_place(|| {
        browser.show(&url, DESKTOP, "light");
        browser.until(LOADED);
        is_told(&browser.spoken());
        let mut order = Vec::new();
        for _ in 0..3 {
            browser.press("Tab");
            let focused = browser.value("document.activeElement.id || document.activeElement.role");
            order.push(focused.as_str().unwrap().to_owned());
            let outline = browser.value("getComputedStyle(document.activeElement).outline");
            assert_eq!(outline, "rgb(9, 105, 218) solid 3px", "{order:?}");
        }
        assert_eq!(order, ["start", "stop", "region"]);

        browser.value("at('start').focus()");
        browser.press("Enter");
        browser.until("at('said').textContent.startsWith('Not done: run ')");
        browser.press("Tab");
        browser.press("Enter");
        browser.until("at('said').textContent === 'The run is ending.'");
    });
}

/// What a person who does not see the page hears of it.
fn is_told(nodes: &[(String, String, String)]) {
    let heard = |role: &str, name: &str| nodes.iter().any(|node| node.0 == role && node.1 == name);
    for (role, name) in [
        ("heading", "Affluent ingester"),
        ("heading", "Schedule"),
        ("heading", "Under way"),
        ("heading", "Latest runs"),
        ("button", "Start a run"),
        ("button", "End this run"),
        ("progressbar", "users delivered"),
        ("region", "Latest runs"),
    ] {
        assert!(heard(role, name), "{role} {name}: {nodes:?}");
    }
    for column in [
        "Started", "State", "Trigger", "Fetched", "Accepted", "Waited", "Reason",
    ] {
        assert!(heard("columnheader", column), "{column}: {nodes:?}");
    }
    let count = |role: &str| nodes.iter().filter(|node| node.0 == role).count();
    assert_eq!((count("rowheader"), count("main"), count("banner")), (3, 1, 1));
    let live: Vec<_> = nodes
        .iter()
        .filter(|node| node.0 == "status")
        .map(|node| node.2.as_str())
        .collect();
    assert_eq!(live, ["polite", "polite"], "what was done, and the counts");
    assert!(
        nodes
            .iter()
            .any(|node| node.1 == "10 of 5,000 users fetched, 0 accepted"),
        "{nodes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tokens_are_needed_the_page_asks_for_one_and_follows_a_run_with_it() {
    let mut browser = block_in_place(Browser::start);
    let (api, publisher) = (
        RandomUserApi::start(Options::default()).await.unwrap(),
        StubPublisher::start().await,
    );
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    let settings = [
        ("AUTH__TOKENS_PATH", tokens.as_str()),
        ("PUBLISHER__MAX_IN_FLIGHT", "1"),
    ];
    let service = IngesterService::start(&api.url(), &publisher.url(), &settings)
        .await
        .with_token(TOKEN);
    publisher.respond_with([StubResponse::Hang]);
    let (_, run) = service
        .send(Method::POST, "/v1/runs", json!({"users": 5000}))
        .await;
    service
        .until(&path(&run), |run| run["counts"]["fetched"] == 10)
        .await;
    let url = format!("{}/", service.url);
    block_in_place(|| {
        browser.show(&url, PHONE, "light");
        browser.until("document.activeElement.id === 'token'");
        assert_eq!(browser.value("at('runs').children.length"), 0);
        browser.picture(&pictures().join("token-360.png"));
        browser.write("wrong");
        browser.press("Enter");
        browser.until("at('said').textContent === 'The ingester refuses: nobody here has this token'");
        browser.value("at('token').focus()");
        browser.write(TOKEN);
        browser.press("Enter");
        browser.until(LOADED);
        browser.until("at('who').hidden && at('said').textContent === ''");
        browser.until("followed === running && followed !== null");
        assert!(
            !browser
                .value("document.documentElement.outerHTML")
                .as_str()
                .unwrap()
                .contains(TOKEN)
        );
    });
    let asked = service.send(Method::DELETE, &path(&run), Value::Null).await;
    assert_eq!(asked.0.as_u16(), 202);
}
