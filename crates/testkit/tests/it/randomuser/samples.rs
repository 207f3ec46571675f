//! Stored responses served instead of generated people.

use std::{collections::HashSet, fs, path::PathBuf};

use serde_json::json;
use tempfile::TempDir;
use testkit::randomuser::{Fault, Options, RandomUserApi, ServedOutcome};

use super::client::{page, results, start_with, uuids};

/// The folder of real responses next to the repository, if it exists.
pub(crate) fn real_samples() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples");
    let present = folder.is_dir();
    if !present {
        eprintln!("skipped: no real responses at {}", folder.display());
    }
    present.then_some(folder)
}

/// Two responses of 1.3, one of 1.4, a single record and a file that is not JSON.
fn written_samples() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let users = |ids: &[u32]| {
        ids.iter()
            .map(|id| json!({"login": {"uuid": id.to_string()}}))
            .collect::<Vec<_>>()
    };
    let reply =
        |ids, page, version| json!({"results": users(ids), "info": {"page": page, "version": version}});
    for (name, content) in [
        ("a_1.json", reply(&[3, 4], 1, "1.3").to_string()),
        ("a_2.json", reply(&[5], 2, "1.3").to_string()),
        ("b.json", reply(&[1, 2], 1, "1.4").to_string()),
        ("bare.json", users(&[9])[0].to_string()),
        ("README.md", "no JSON".to_owned()),
    ] {
        fs::write(folder.path().join(name), content).expect("a writable temporary folder");
    }
    folder
}

#[tokio::test]
async fn samples_are_served_newest_first_in_requested_pages() {
    let folder = written_samples();
    let api = start_with(Options::samples(folder.path())).await;
    let expected: [(&str, &[&str]); 4] = [
        ("results=5", &["1", "2", "3", "4", "5"]),
        ("results=2&page=2", &["3", "4"]),
        ("results=2&page=3&nat=us", &["5"]),
        ("results=2&page=4", &[]),
    ];
    for (parameters, ids) in expected {
        let reply = page(&api, &format!("/api/1.4/?{parameters}")).await;
        assert_eq!(uuids(&reply), ids, "{parameters}");
        assert_eq!(reply["info"]["results"], ids.len(), "{parameters}");
        assert_eq!(reply["info"]["version"], "1.4", "{parameters}");
    }
    assert_eq!(api.requests()[2].outcome, ServedOutcome::Served { users: 1 });
}

#[tokio::test]
async fn faults_apply_to_samples() {
    let folder = written_samples();
    let api = start_with(Options::samples(folder.path())).await;
    api.inject(Fault::DuplicateUuids, 1);
    assert_eq!(
        uuids(&page(&api, "/api/?results=5").await),
        ["1", "2", "3", "4", "1"]
    );
    api.inject(Fault::NoResults, 1);
    assert!(results(&page(&api, "/api/?results=5&page=2").await).is_empty());
}

#[tokio::test]
async fn folder_without_samples_is_rejected_by_name() {
    let folder = TempDir::new().unwrap();
    let error = RandomUserApi::start(Options::samples(folder.path()))
        .await
        .unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        cause,
        format!("{} contains no complete response", folder.path().display())
    );
    fs::write(folder.path().join("x.json"), "{").unwrap();
    let error = RandomUserApi::start(Options::samples(folder.path()))
        .await
        .unwrap_err();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .ends_with("x.json is not a response of the API")
    );
}

#[tokio::test]
async fn real_samples_have_211_people_each_served_once() {
    let Some(folder) = real_samples() else { return };
    let api = start_with(Options::samples(folder)).await;
    let reply = page(&api, "/api/1.4/?results=211").await;
    let ids: HashSet<String> = uuids(&reply).into_iter().map(str::to_owned).collect();
    assert_eq!(ids.len(), 211);
    let mut paged = HashSet::new();
    for number in 1..=5 {
        let reply = page(&api, &format!("/api/1.4/?results=50&page={number}")).await;
        paged.extend(uuids(&reply).into_iter().map(str::to_owned));
    }
    assert_eq!(paged, ids);
}
