//! Recorded replies of the real API, if they are next to the repository: each record is compared field by field.

use std::path::{Path, PathBuf};

use ingester::run::report::RunOutcome;
use ingester::run::run_stats::RunCounts;
use serde_json::{Map, Value, json};
use testkit::randomuser::{Options, RandomUserApi};

use crate::support::pipeline;
use crate::support::publisher_stack::PublisherStack;

fn folder() -> Option<PathBuf> {
    let folder = testkit::workspace::root().unwrap().join("../shared/samples");
    let found = folder.is_dir().then_some(folder);
    if found.is_none() {
        eprintln!("skipped: no recorded replies next to the repository");
    }
    found
}

/// Returns every user of the replies by UUID.
fn users(folder: &Path) -> Map<String, Value> {
    let mut users = Map::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let reply: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let results = reply["results"].as_array().cloned().unwrap_or_default();
        users.extend(
            results
                .into_iter()
                .map(|user| (text(&user["login"]["uuid"]), user)),
        );
    }
    users
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Maps a user independently of the implementation.
fn expected(user: &Value) -> Value {
    let location = &user["location"];
    let part = |value: &Value| text(value).trim().to_owned();
    let street = format!(
        "{} {}",
        part(&location["street"]["number"]),
        part(&location["street"]["name"])
    );
    let places = ["city", "state", "country"].map(|name| part(&location[name]));
    let mut record = json!({
        "id": user["login"]["uuid"],
        "first_name": user["name"]["first"],
        "last_name": user["name"]["last"],
        "gender": user["gender"],
        "address": format!("{street}, {}", places.join(", ")),
        "post_code": text(&location["postcode"]),
        "email": user["email"],
        "username": user["login"]["username"],
        "dob": user["dob"]["date"],
        "phone": user["phone"],
        "picture": user["picture"]["medium"],
    });
    if let Some(registered) = user.get("registered") {
        record["registered_date"] = registered["date"].clone();
    }
    record
}

/// Serves the replies of `folder` to one run. Returns its counts and delivered records.
async fn run_over(folder: &Path) -> (RunCounts, Vec<Value>) {
    let api = RandomUserApi::start(Options::samples(folder)).await.unwrap();
    let stack = PublisherStack::shared().await;
    let mut settings = pipeline::settings(&api, &stack.url());
    settings.source.page_size = 5_000;
    settings.run.users = 211;
    let report = pipeline::run(&settings).await;
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    (report.counts, stack.records_of(report.run).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_users_map_to_the_expected_records() {
    let Some(folder) = folder() else { return };
    let users = users(&folder);
    assert_eq!(users.len(), 211);
    let undated = users.values().filter(|user| user.get("registered").is_none());
    assert_eq!(undated.count(), 100, "replies of version 1.3 omit the date");
    let (counts, records) = run_over(&folder).await;
    assert_eq!((records.len(), counts.invalid), (211, 0), "{counts:?}");
    for record in records {
        assert_eq!(record, expected(&users[record["id"].as_str().unwrap()]));
    }
}
