//! The API of the service, the commands that look at the state, and what a stopped ingester leaves to the next.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testbed::randomuser::{Fault, Options, RandomUserApi};

use crate::door::{Answer, Door};
use crate::process::{Ingester, free_port};

const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const TOKEN: &str = "a-token-of-ours";

/// A file that lets `token` in, under a name.
pub(crate) fn tokens_file(folder: &Path, token: &str) -> String {
    let path = folder.join("tokens");
    let sha256: String = Sha256::digest(token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    std::fs::write(&path, format!("somebody {sha256}\n")).unwrap();
    path.display().to_string()
}

pub(crate) struct Service {
    ingester: Ingester,
    pub(crate) url: String,
    client: Client,
    token: Option<&'static str>,
}

impl Service {
    /// A service that starts nothing by itself, with pages of five.
    pub(crate) async fn start(api: &str, door: &str, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let mut all = vec![
            ("API__LISTEN", listen.as_str()),
            ("SCHEDULE__CRON", "0 0 29 2 *"),
            ("SOURCE__PAGE_SIZE", "5"),
            ("RUN__USERS", "10"),
        ];
        all.extend_from_slice(settings);
        let ingester = Ingester::start(&["run"], api, door, &all);
        ingester.wait_for("/readyz", |status, _| status == 200).await;
        Self {
            ingester,
            url: format!("http://{listen}"),
            client: Client::new(),
            token: None,
        }
    }

    /// Asks with this token from now on.
    pub(crate) fn with_token(self, token: &'static str) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, Value::Null).await.1
    }

    pub(crate) async fn until(&self, path: &str, hopeful: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            let answer = self.get(path).await;
            if hopeful(&answer) {
                return answer;
            }
            assert!(
                Instant::now() < until,
                "{path}: {answer}\n{}",
                self.ingester.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn path(run: &Value) -> String {
    format!("/v1/runs/{}", run["id"].as_str().unwrap())
}

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

#[tokio::test]
async fn a_run_that_is_asked_for_starts_within_100_ms_and_ends_in_the_history() {
    let (api, door) = (api().await, Door::open().await);
    let service = Service::start(&api.url(), &door.url(), &[]).await;
    assert!(api.requests().is_empty());
    let asked = Instant::now();
    let body = json!({"users": 15, "seed": "by-hand", "pages": "2..3"});
    let (status, run) = service.send(Method::POST, "/v1/runs", body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    while api.requests().is_empty() {
        assert!(
            asked.elapsed() < Duration::from_millis(100),
            "{}",
            service.ingester.log()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let run = service.until(&path(&run), |run| run["state"] == "complete").await;
    assert_eq!(
        (&run["cause"], &run["counts"]["accepted"]),
        (&"manual".into(), &10.into())
    );
    assert_eq!(
        service.get("/v1/runs?state=complete").await["runs"][0]["id"],
        run["id"]
    );
    assert_eq!(service.get("/v1/schedule").await["running"], Value::Null);
}

#[tokio::test]
async fn a_run_under_way_is_told_of_refuses_another_and_ends_on_request() {
    let (api, door) = (api().await, Door::open().await);
    door.answer([Answer::Says(503, Some("1"), Value::Null)]);
    let service = Service::start(&api.url(), &door.url(), &[("RUN__USERS", "5000")]).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    service
        .until(&path(&run), |run| run["counts"]["retried"] == 1)
        .await;
    assert_eq!(
        service.send(Method::POST, "/v1/runs", Value::Null).await.0,
        StatusCode::CONFLICT
    );
    let mut events = service
        .client
        .get(format!("{}{}/events", service.url, path(&run)))
        .send()
        .await
        .unwrap();
    assert_eq!(
        service.send(Method::DELETE, &path(&run), Value::Null).await.0,
        StatusCode::ACCEPTED
    );
    let mut told = String::new();
    while let Some(chunk) = tokio::time::timeout(DEADLINE, events.chunk())
        .await
        .unwrap()
        .unwrap()
    {
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(
        told.starts_with("event: run") && told.contains("\"state\":\"running\""),
        "{told}"
    );
    assert!(
        told.trim_end()
            .lines()
            .last()
            .unwrap()
            .contains("\"state\":\"stopped\""),
        "{told}"
    );
    let run = service.get(&path(&run)).await;
    assert_eq!(
        (&run["counts"]["fetched"], &run["counts"]["accepted"]),
        (&10.into(), &10.into())
    );
    assert_eq!(
        service
            .send(Method::POST, "/v1/runs", json!({"users": 5}))
            .await
            .0,
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn a_service_told_to_stop_leaves_its_run_to_the_next() {
    let (api, door) = (api().await, Door::open().await);
    door.answer([Answer::Says(503, Some("1"), Value::Null)]);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [
        ("STATE__PATH", state.as_str()),
        ("RUN__USERS", "200"),
        ("STATE__OUTBOX_PAGES", "3"),
    ];
    let first = Service::start(&api.url(), &door.url(), &settings).await;
    let (_, run) = first.send(Method::POST, "/v1/runs", Value::Null).await;
    first
        .until(&path(&run), |run| run["counts"]["retried"] == 1)
        .await;
    assert_eq!(
        first.ingester.child.terminate(DEADLINE).await.unwrap().code(),
        Some(0)
    );
    let second = Service::start(&api.url(), &door.url(), &settings).await;
    let run = second.until(&path(&run), |run| run["state"] == "complete").await;
    assert_eq!(
        (&run["resumed"], &run["counts"]["accepted"]),
        (&1.into(), &200.into())
    );
    assert_eq!(api.requests().len(), 40, "no page twice");
    let numbers: Vec<_> = door
        .parcels()
        .iter()
        .filter(|parcel| parcel.accepted)
        .map(|parcel| parcel.first)
        .collect();
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");

    let ingester = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ingester"));
        let output = command
            .args(arguments)
            .env("INGESTER__STATE__PATH", &state)
            .env("INGESTER__PROCESS__ADMIN_LISTEN", "127.0.0.1:0")
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, listed, _) = ingester(&["history"]);
    assert!(
        code == Some(0) && listed.lines().count() == 2 && listed.contains(" complete "),
        "{listed}"
    );
    let (_, listed, _) = ingester(&["history", "--json", "--state", "complete"]);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["id"], run["id"]);
    let (_, shown, _) = ingester(&["show", run["id"].as_str().unwrap()]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), run);
    let (code, _, error) = ingester(&["once", "--users", "5"]);
    assert!(
        code == Some(78) && error.contains("in use by another ingester"),
        "{error}"
    );
}

#[tokio::test]
async fn a_retry_that_waits_outlives_kill_9_and_comes_when_it_was_due() {
    let (api, door) = (api().await, Door::open().await);
    api.inject(Fault::ForbiddenPage, 1);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [("STATE__PATH", state.as_str()), ("SCHEDULE__RETRY_DELAY", "3s")];
    let first = Service::start(&api.url(), &door.url(), &settings).await;
    let body = json!({"users": 5, "seed": "once-more", "pages": "1..1"});
    let (_, run) = first.send(Method::POST, "/v1/runs", body).await;
    let failed = first.until(&path(&run), |run| run["state"] == "failed").await;
    assert_eq!(first.ingester.child.kill().await.unwrap().code(), None);

    let second = Service::start(&api.url(), &door.url(), &settings).await;
    let instant = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let due = instant(&failed["ended"]) + jiff::SignedDuration::from_secs(3);
    let timetable = second
        .until("/v1/schedule", |plan| !plan["next_start"].is_null())
        .await;
    assert_eq!(instant(&timetable["next_start"]), due);
    let runs = second
        .until("/v1/runs?cause=retry&state=complete", |runs| {
            !runs["runs"][0].is_null()
        })
        .await;
    let retry = &runs["runs"][0];
    assert!(instant(&retry["started"]) >= due, "{retry}");
    for kept in ["seed", "users", "pages", "page_size"] {
        assert_eq!(retry[kept], failed[kept], "{kept}");
    }
    assert_eq!(
        (&retry["retry"], &retry["resumed"], door.accepted().len()),
        (&1.into(), &0.into(), 5)
    );
    assert_eq!(second.get("/v1/runs").await["runs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_publisher_that_is_down_costs_time_and_holds_the_fetching_back() {
    let api = api().await;
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [
        ("STATE__PATH", state.as_str()),
        ("STATE__OUTBOX_PAGES", "4"),
        ("SOURCE__PAGE_SIZE", "5"),
        ("PUBLISHER__BACKOFF__MAX", "200ms"),
    ];
    let nobody = format!("http://127.0.0.1:{port}");
    let ingester = Ingester::start(&["once", "--users", "100"], &api.url(), &nobody, &settings);
    let fetched = |count: u64| {
        move |_: u16, body: &str| body.contains(&format!("ingester_users_fetched_total {count}\n"))
    };
    ingester.wait_for("/metrics", fetched(20)).await;
    let resent = |body: &str| {
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix("ingester_retries_total{leg=\"publisher\"} "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = resent(&ingester.ask("/metrics").await.1);
    let later = ingester
        .wait_for("/metrics", |_, body| resent(body) >= before + 5)
        .await;
    assert!(
        fetched(20)(200, &later),
        "the outbox is full, and nothing but delivery goes on"
    );
    let door = Door::open_on(port).await;
    assert_eq!(ingester.exit_code().await, Some(0), "{}", ingester.log());
    assert_eq!(door.accepted().len(), 100);
    assert_eq!(api.requests().len(), 20);
}

#[tokio::test]
async fn a_backfill_fetches_the_pages_that_it_said_it_would() {
    let (api, door) = (api().await, Door::open().await);
    let page = [("SOURCE__PAGE_SIZE", "5")];
    let command = ["backfill", "--users", "23", "--seed", "abc", "--pages", "4..5"];
    let dry = Ingester::start(
        &[&command[..], &["--dry-run"]].concat(),
        &api.url(),
        &door.url(),
        &page,
    );
    assert_eq!(dry.exit_code().await, Some(0));
    let plan: Value = serde_json::from_str(&dry.log()).unwrap();
    assert_eq!(
        (&plan["users"], &plan["requests"], &plan["last"]["results"]),
        (&8.into(), &2.into(), &3.into())
    );
    assert!(api.requests().is_empty());
    let backfill = Ingester::start(&command, &api.url(), &door.url(), &page);
    assert_eq!(backfill.exit_code().await, Some(0), "{}", backfill.log());
    assert_eq!(
        (&backfill.summary()["requested"], door.accepted().len()),
        (&8.into(), 8)
    );
    let all = Ingester::start(
        &["once", "--users", "23", "--seed", "abc"],
        &api.url(),
        &door.url(),
        &page,
    );
    assert_eq!(all.exit_code().await, Some(0));
    let accepted = door.accepted();
    assert_eq!(
        accepted[..8],
        accepted[8 + 15..],
        "the same users as among all of them"
    );
}

#[tokio::test]
async fn starts_that_nobody_was_there_for_are_in_the_history_and_the_latest_is_caught_up() {
    let (api, door) = (api().await, Door::open().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let hours_ago = |hours| jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
    let memory = ingester::memory::Memory::open(&path).unwrap();
    memory.schedule_up_to(hours_ago(50)).unwrap();
    drop(memory);
    let state = path.display().to_string();
    let settings = [("STATE__PATH", state.as_str()), ("SCHEDULE__CRON", "30 12 * * *")];
    let service = Service::start(&api.url(), &door.url(), &settings).await;
    let runs = service
        .until("/v1/runs", |runs| runs["runs"][0]["state"] == "complete")
        .await;
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!(runs[0]["cause"], "catch_up", "{runs:?}");
    let missed: Vec<_> = runs[1..]
        .iter()
        .map(|run| (&run["state"], &run["reason"]))
        .collect();
    let reason = &Value::from("nobody was there");
    assert!(
        !missed.is_empty() && missed.iter().all(|run| *run == (&"missed".into(), reason)),
        "{runs:?}"
    );
    let line = format!("ingester_starts_missed_total {}\n", missed.len());
    assert!(service.ingester.ask("/metrics").await.1.contains(&line));
}

#[tokio::test]
async fn the_budget_is_kept_over_a_restart() {
    let (api, door) = (api().await, Door::open().await);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [
        ("STATE__PATH", state.as_str()),
        ("SOURCE__PAGE_SIZE", "5"),
        ("SOURCE__BUDGET__USERS", "10"),
        ("SOURCE__BUDGET__WINDOW", "3s"),
    ];
    let once = || Ingester::start(&["once", "--users", "10"], &api.url(), &door.url(), &settings);
    let first = once();
    assert_eq!(first.exit_code().await, Some(0));
    assert_eq!(first.summary()["throttled_seconds"], 0.0);
    let second = once();
    assert_eq!(second.exit_code().await, Some(0));
    assert!(
        second.summary()["throttled_seconds"].as_f64().unwrap() > 1.0,
        "{}",
        second.summary()
    );
}

#[tokio::test]
async fn only_those_with_a_token_of_ours_ask_for_runs_watch_and_end_them() {
    let (api, door) = (api().await, Door::open().await);
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    let settings = [
        ("AUTH__TOKENS_PATH", tokens.as_str()),
        ("API__RELOAD_INTERVAL", "50ms"),
    ];
    let service = Service::start(&api.url(), &door.url(), &settings).await;
    let status = async |method: &str, path: &str, token: Option<&str>| {
        let method = method.parse().unwrap();
        let mut request = service.client.request(method, format!("{}{path}", service.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    };
    let run = "/v1/runs/00000000-0000-0000-0000-000000000000";
    let events = format!("{run}/events");
    for (method, path, known) in [
        ("GET", "/v1/runs", 200),
        ("GET", "/v1/schedule", 200),
        ("GET", run, 404),
        ("GET", &events, 404),
        ("DELETE", run, 404),
        ("POST", "/v1/runs", 202),
    ] {
        let stranger = status(method, path, None).await;
        assert_eq!(stranger.status(), 401, "{method} {path}");
        assert_eq!(stranger.headers()["www-authenticate"], "Bearer");
        assert_eq!(stranger.headers()["content-type"], "application/problem+json");
        assert_eq!(
            status(method, path, Some("wrong")).await.status(),
            403,
            "{method} {path}"
        );
        assert_eq!(
            status(method, path, Some(TOKEN)).await.status(),
            known,
            "{method} {path}"
        );
    }
    for open in ["/", "/openapi.json"] {
        assert_eq!(
            status("GET", open, None).await.status(),
            200,
            "{open} says nothing of a run"
        );
    }
    let until = Instant::now() + DEADLINE;
    while api.requests().len() < 2 {
        assert!(Instant::now() < until, "{}", service.ingester.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    tokens_file(folder.path(), "the-next-one");
    let until = Instant::now() + DEADLINE;
    while status("GET", "/v1/runs", Some("the-next-one")).await.status() != 200 {
        assert!(Instant::now() < until, "{}", service.ingester.log());
    }
    assert_eq!(status("GET", "/v1/runs", Some(TOKEN)).await.status(), 403);
    assert_eq!(
        api.requests().len(),
        2,
        "one run of two pages: strangers started none"
    );
    let log = service.ingester.log();
    assert!(!log.contains(TOKEN) && !log.contains("the-next-one"), "{log}");
}

#[tokio::test]
async fn live_events_end_with_the_run_that_they_tell_of_in_time() {
    let (api, door) = (api().await, Door::open().await);
    door.answer([Answer::Says(503, Some("1"), Value::Null)]);
    let service = Service::start(&api.url(), &door.url(), &[]).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let events = service
        .client
        .get(format!("{}{}/events", service.url, path(&run)));
    let told = tokio::time::timeout(DEADLINE, events.send().await.unwrap().text())
        .await
        .unwrap()
        .unwrap();
    let data = told.lines().filter_map(|line| line.strip_prefix("data: "));
    let told: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    assert!(
        told.len() >= 2 && told.windows(2).all(|two| two[0] != two[1]),
        "{told:?}"
    );
    let last = told.last().unwrap();
    assert_eq!(
        (&last["state"], &last["counts"]["accepted"]),
        (&"complete".into(), &10.into())
    );
}

#[tokio::test]
async fn a_start_that_falls_into_another_run_is_skipped_and_the_history_says_so() {
    let (api, door) = (api().await, Door::open().await);
    door.answer([Answer::Says(503, Some("3"), Value::Null)]);
    let each_second = [("SCHEDULE__CRON", "* * * * * *")];
    let service = Service::start(&api.url(), &door.url(), &each_second).await;
    let skipped = service
        .until("/v1/runs?state=skipped&limit=500", |runs| {
            !runs["runs"][0].is_null()
        })
        .await;
    for run in skipped["runs"].as_array().unwrap() {
        assert_eq!(
            (&run["cause"], &run["reason"], &run["started"]),
            (
                &"schedule".into(),
                &"another run was under way".into(),
                &Value::Null
            )
        );
        assert!(
            run["scheduled"].is_string() && run["counts"]["requested"] == 0,
            "{run}"
        );
    }
    let metrics = service.ingester.wait_for("/metrics", |_, body| {
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix("ingester_starts_skipped_total "));
        line.and_then(|count| count.parse::<usize>().ok())
            .is_some_and(|count| count > 0)
    });
    metrics.await;
    service
        .until("/v1/runs?state=complete", |runs| {
            runs["runs"][0]["cause"] == "schedule"
        })
        .await;
}

#[tokio::test]
async fn a_refused_record_is_known_by_number_id_field_and_rule_and_by_nothing_personal() {
    let (api, door) = (api().await, Door::open().await);
    door.answer([Answer::RefusesTheFirst]);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let service = Service::start(&api.url(), &door.url(), &[("STATE__PATH", state.as_str())]).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let run = service.until(&path(&run), |run| run["state"] == "rejected").await;
    let refused = &door.parcels()[0].records[0];
    assert_eq!(
        run["refused"],
        json!([{"record": 0, "id": refused["id"], "reason": "phone: is not to our liking"}])
    );
    assert_eq!(
        run["counts"]["rejected_reasons"],
        json!({"phone: is not to our liking": 1})
    );
    let shown = Command::new(env!("CARGO_BIN_EXE_ingester"))
        .args(["show", run["id"].as_str().unwrap()])
        .env("INGESTER__STATE__PATH", &state)
        .output()
        .unwrap();
    let told = [
        String::from_utf8(shown.stdout).unwrap(),
        run.to_string(),
        service.ingester.log(),
    ];
    for (field, value) in refused
        .as_object()
        .unwrap()
        .iter()
        .filter(|(field, _)| *field != "id" && *field != "gender")
    {
        let value = value.as_str().unwrap();
        assert!(told.iter().all(|text| !text.contains(value)), "{field}");
    }
}
