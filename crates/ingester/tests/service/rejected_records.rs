//! Stored details of records that the publisher rejected.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::randomuser::{Options, RandomUserApi};

use crate::ingester_service::{IngesterService, path};
use crate::publisher_stack::PublisherStack;

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_record_is_stored_without_personal_data() {
    let (api, open) = (api().await, PublisherStack::shared().await);
    // Both services validate by the same rules, so only a lower limit rejects records.
    let narrow = PublisherStack::with(&[("limits.max_record", "10 B")]).await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [("STATE__PATH", state.as_str()), ("RUN__SEED", "abc")];
    let accepting = IngesterService::start(&api.url(), &open.url(), &[("RUN__SEED", "abc")]).await;
    let (_, run) = accepting.send(Method::POST, "/v1/runs", Value::Null).await;
    let run = accepting
        .wait_for(&path(&run), |run| run["state"] == "complete")
        .await;
    let records = open.records_of(run["id"].as_str().unwrap()).await;

    let service = IngesterService::start(&api.url(), &narrow.url(), &settings).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let run = service
        .wait_for(&path(&run), |run| run["state"] == "failed")
        .await;
    let refused = run["rejected_records"].as_array().unwrap();
    assert_eq!((refused.len(), &run["counts"]["accepted"]), (10, &0.into()));
    let reason = refused[0]["reason"].as_str().unwrap();
    for (number, record) in records.iter().enumerate() {
        let expected = json!({"record": number, "id": record["id"], "reason": reason});
        assert_eq!(refused[number], expected);
    }
    assert_eq!(run["counts"]["rejected_reasons"], json!({reason: 10}));
    let shown = Command::new(env!("CARGO_BIN_EXE_ingester"))
        .args(["runs", "show", run["id"].as_str().unwrap()])
        .env("INGESTER__STATE__PATH", &state)
        .output()
        .unwrap();
    let outputs = [
        String::from_utf8(shown.stdout).unwrap(),
        run.to_string(),
        service.ingester.log(),
    ];
    let fields = records.iter().flat_map(|record| record.as_object().unwrap());
    for (field, value) in fields.filter(|(field, _)| *field != "id" && *field != "gender") {
        let value = value.as_str().unwrap();
        // A short name may be part of another word.
        let shown = outputs.iter().any(|text| value.len() > 4 && text.contains(value));
        assert!(!shown, "{field}");
    }
}
