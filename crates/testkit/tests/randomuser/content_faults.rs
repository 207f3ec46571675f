//! Faults inside an otherwise proper reply.

use std::collections::HashSet;

use serde_json::Value;
use testkit::randomuser::{BrokenField, Fault, RandomUserApi};

use crate::client::{get, page, results, start, uuids};

const TEN: &str = "/api/1.4/?results=10&seed=x";

async fn faulted(api: &RandomUserApi, fault: Fault) -> Value {
    api.inject(fault, 1);
    page(api, TEN).await
}

#[tokio::test]
async fn no_results_are_a_200_whose_info_claims_them_all() {
    let api = start().await;
    let reply = faulted(&api, Fault::NoResults).await;
    assert!(results(&reply).is_empty());
    assert_eq!(reply["info"]["results"], 10);
}

#[tokio::test]
async fn fewer_results_are_half_of_those_that_info_claims() {
    let api = start().await;
    let reply = faulted(&api, Fault::FewerResults).await;
    assert_eq!(results(&reply).len(), 5);
    assert_eq!(reply["info"]["results"], 10);
}

#[tokio::test]
async fn a_wrong_version_is_told_by_info_alone() {
    let api = start().await;
    let whole = page(&api, TEN).await;
    let reply = faulted(&api, Fault::WrongVersion).await;
    assert_eq!(reply["info"]["version"], "1.3");
    assert_eq!(results(&reply), results(&whole));
}

#[tokio::test]
async fn a_wrong_content_type_stands_on_the_right_reply() {
    let api = start().await;
    let whole = page(&api, TEN).await;
    api.inject(Fault::WrongContentType, 1);
    let reply = get(&api, TEN).await;
    assert_eq!(reply.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(reply.json::<Value>().await.unwrap(), whole);
}

#[tokio::test]
async fn duplicate_uuids_are_one_within_a_page_on_different_people() {
    let api = start().await;
    let reply = faulted(&api, Fault::DuplicateUuids).await;
    let ids = uuids(&reply);
    assert_eq!(ids[0], ids[9]);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 9);
    assert_ne!(results(&reply)[0]["email"], results(&reply)[9]["email"]);
}

#[tokio::test]
async fn each_broken_field_breaks_the_one_record_in_the_middle() {
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
async fn broken_fields_are_what_they_are_called() {
    let api = start().await;
    let broken = async |field| results(&faulted(&api, Fault::BrokenRecord(field)).await)[5].clone();
    assert!(broken(BrokenField::MissingEmail).await.get("email").is_none());
    assert!(broken(BrokenField::MissingLogin).await.get("login").is_none());
    assert!(
        !broken(BrokenField::EmailWithoutAt).await["email"]
            .as_str()
            .unwrap()
            .contains('@')
    );
    assert!(broken(BrokenField::NullUuid).await["login"]["uuid"].is_null());
    assert!(
        broken(BrokenField::NilUuid).await["login"]["uuid"]
            .as_str()
            .unwrap()
            .starts_with("00000000-0000")
    );
    assert_eq!(
        broken(BrokenField::BlankName).await["name"]["first"]
            .as_str()
            .unwrap()
            .trim(),
        ""
    );
    assert!(broken(BrokenField::NumericName).await["name"]["first"].is_number());
    assert!(
        broken(BrokenField::NulInName).await["name"]["first"]
            .as_str()
            .unwrap()
            .contains('\0')
    );
    assert_eq!(
        broken(BrokenField::LongName).await["name"]["first"]
            .as_str()
            .unwrap()
            .len(),
        513
    );
    assert!(
        broken(BrokenField::BadDate).await["dob"]["date"]
            .as_str()
            .unwrap()
            .starts_with("1990-02-31")
    );
    assert!(broken(BrokenField::NullRecord).await.is_null());
}

#[tokio::test]
async fn a_page_of_one_is_broken_too() {
    let api = start().await;
    api.inject(Fault::BrokenRecord(BrokenField::MissingEmail), 1);
    assert!(results(&page(&api, "/api/").await)[0].get("email").is_none());
}
