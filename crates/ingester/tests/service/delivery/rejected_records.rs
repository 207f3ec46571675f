//! Stored details of records that the publisher rejected.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::ingester_process::read_state;
use crate::support::ingester_service::IngesterService;
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

#[tokio::test(flavor = "multi_thread")]
async fn rejected_record_is_stored_without_personal_data() {
    let (api, open) = (start_api().await, PublisherStack::shared().await);
    // Both services validate by the same rules, so only a lower limit rejects records.
    let narrow = PublisherStack::with(&[("limits.max_record", "10 B")]).await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db").display().to_string();
    let settings = [("state.path", state.as_str()), ("run.seed", "abc")];
    let accepting = IngesterService::start(&api.url(), &open.url(), &[("run.seed", "abc")]).await;
    let (_, run) = accepting.send(Method::POST, "/v1/runs", Value::Null).await;
    let run = accepting.wait_for_state(&run, "complete").await;
    let records = open.records_of(run["id"].as_str().unwrap()).await;

    let service = IngesterService::start(&api.url(), &narrow.url(), &settings).await;
    let (_, run) = service.send(Method::POST, "/v1/runs", Value::Null).await;
    let run = service.wait_for_state(&run, "failed").await;
    let refused = run["rejected_records"].as_array().unwrap();
    assert_eq!((refused.len(), &run["counts"]["accepted"]), (10, &0.into()));
    let reason = refused[0]["reason"].as_str().unwrap();
    for (number, record) in records.iter().enumerate() {
        let expected = json!({"record": number, "id": record["id"], "reason": reason});
        assert_eq!(refused[number], expected);
    }
    assert_eq!(run["counts"]["rejected_reasons"], json!({reason: 10}));
    let command = ["runs", "show", run["id"].as_str().unwrap()];
    let outputs = [
        read_state(&command, &state),
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
