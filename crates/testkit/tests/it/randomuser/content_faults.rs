//! Faults in the content of a page.

use std::collections::HashSet;

use serde_json::Value;
use testkit::randomuser::{BrokenField, Fault, RandomUserApi};

use super::client::{get, page, results, start, uuids};

const TEN: &str = "/api/1.4/?results=10&seed=x";

async fn faulted(api: &RandomUserApi, fault: Fault) -> Value {
    api.inject(fault, 1);
    page(api, TEN).await
}

#[tokio::test]
async fn no_results_is_200_with_the_full_count_in_info() {
    let api = start().await;
    let reply = faulted(&api, Fault::NoResults).await;
    assert!(results(&reply).is_empty());
    assert_eq!(reply["info"]["results"], 10);
}

#[tokio::test]
async fn fewer_results_is_half_of_the_count_in_info() {
    let api = start().await;
    let reply = faulted(&api, Fault::FewerResults).await;
    assert_eq!(results(&reply).len(), 5);
    assert_eq!(reply["info"]["results"], 10);
}

#[tokio::test]
async fn wrong_version_changes_only_info() {
    let api = start().await;
    let whole = page(&api, TEN).await;
    let reply = faulted(&api, Fault::WrongVersion).await;
    assert_eq!(reply["info"]["version"], "1.3");
    assert_eq!(results(&reply), results(&whole));
}

#[tokio::test]
async fn wrong_content_type_keeps_the_body() {
    let api = start().await;
    let whole = page(&api, TEN).await;
    api.inject(Fault::WrongContentType, 1);
    let reply = get(&api, TEN).await;
    assert_eq!(reply.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(reply.json::<Value>().await.unwrap(), whole);
}

#[tokio::test]
async fn duplicate_uuids_share_one_id_between_two_people() {
    let api = start().await;
    let reply = faulted(&api, Fault::DuplicateUuids).await;
    let ids = uuids(&reply);
    assert_eq!(ids[0], ids[9]);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 9);
    assert_ne!(results(&reply)[0]["email"], results(&reply)[9]["email"]);
}

#[tokio::test]
async fn each_broken_field_breaks_the_middle_record() {
    let api = start().await;
    let whole = page(&api, TEN).await;
    for field in BrokenField::all() {
        let reply = faulted(&api, Fault::BrokenRecord(field)).await;
        let differing: Vec<usize> = (0..10)
            .filter(|&i| results(&reply)[i] != results(&whole)[i])
            .collect();
        assert_eq!(differing, [5], "{field}");
    }
}

#[tokio::test]
async fn broken_fields_match_their_names() {
    type Check = fn(&Value) -> bool;
    fn first(user: &Value) -> &str {
        user["name"]["first"].as_str().unwrap()
    }
    let checks: [(BrokenField, Check); 11] = [
        (BrokenField::MissingEmail, |user| user.get("email").is_none()),
        (BrokenField::MissingLogin, |user| user.get("login").is_none()),
        (BrokenField::EmailWithoutAt, |user| {
            !user["email"].as_str().unwrap().contains('@')
        }),
        (BrokenField::NullUuid, |user| user["login"]["uuid"].is_null()),
        (BrokenField::NilUuid, |user| {
            user["login"]["uuid"]
                .as_str()
                .unwrap()
                .starts_with("00000000-0000")
        }),
        (BrokenField::BlankName, |user| first(user).trim().is_empty()),
        (BrokenField::NumericName, |user| user["name"]["first"].is_number()),
        (BrokenField::NulInName, |user| first(user).contains('\0')),
        (BrokenField::LongName, |user| first(user).len() == 513),
        (BrokenField::BadDate, |user| {
            user["dob"]["date"].as_str().unwrap().starts_with("1990-02-31")
        }),
        (BrokenField::NullRecord, Value::is_null),
    ];
    let api = start().await;
    for (field, matches) in checks {
        let reply = faulted(&api, Fault::BrokenRecord(field)).await;
        assert!(matches(&results(&reply)[5]), "{field}: {}", results(&reply)[5]);
    }
}

#[tokio::test]
async fn page_of_one_can_be_broken() {
    let api = start().await;
    api.inject(Fault::BrokenRecord(BrokenField::MissingEmail), 1);
    assert!(results(&page(&api, "/api/").await)[0].get("email").is_none());
}
