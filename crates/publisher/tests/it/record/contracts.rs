//! The choice of the contract: from a file, with imports and a message's name; and contracts that are refused.

use std::fs;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::support::broker;
use crate::support::harness::{Setup, setup, setup_without_topic};
use crate::support::sample_contracts::{ORDERS, order};
use crate::support::topic::Topic;

const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

const HEAD: &str = "syntax = \"proto3\";\nimport \"affluent/options/v1/options.proto\";\n";

/// A message with these fields from line 4 on; the key is `id`.
fn proto(fields: &str) -> String {
    let option = "option (affluent.options.v1.record) = { resource: \"things\" key: \"id\" };";
    format!("{HEAD}message Thing {{ {option}\n{fields}\n}}\n")
}

fn unreachable() -> Setup {
    setup("127.0.0.1:1", "nowhere")
}

/// Starts a process that should end, and returns its exit code and log.
async fn exit(setup: Setup) -> (Option<i32>, String) {
    let child = setup.spawn();
    let status = child.wait(EXIT_TIMEOUT).await.unwrap();
    (status.code(), child.last_lines(10))
}

#[tokio::test]
async fn refused_contract_exits_with_78_and_its_remedy() {
    for (proto, parts) in [
        (
            proto("string id = 1;\nmessage Inner { string a = 1; }\nInner inner = 2;"),
            [
                "record.proto:6: field `inner`",
                "nested message",
                "give its fields",
            ],
        ),
        (
            proto("string name = 1;"),
            [
                "record.proto:3: message `Thing`",
                "the key `id` is not one of its fields",
                "name a field",
            ],
        ),
        (
            proto("optional string id = 1;"),
            [
                "record.proto:4: field `id`",
                "every record has",
                "remove `optional`",
            ],
        ),
        (
            proto("float id = 1;"),
            [
                "record.proto:4: field `id`",
                "can't be of type float",
                "a uuid, or an integer",
            ],
        ),
        (
            format!("{}import \"shop/color.proto\";\n", proto("string id = 1;")),
            ["record.proto:6", "shop/color.proto", "record.include"],
        ),
        (
            format!("{HEAD}message Thing {{ string id = 1; }}"),
            [
                "record.proto has 0 messages",
                "record.message",
                "option (affluent.options.v1.record)",
            ],
        ),
    ] {
        for arguments in [&["--check-config"][..], &[]] {
            let (code, log) = exit(unreachable().record(&proto).arguments(arguments)).await;
            assert_eq!(code, Some(78), "{proto}: {log}");
            let origin = "environment variable PUBLISHER__RECORD__PROTO: record.proto: ";
            assert!(log.contains(origin), "{log}");
            for part in parts {
                assert!(log.contains(part), "{arguments:?} {proto}: no {part} in {log}");
            }
        }
    }
}

#[tokio::test]
async fn setting_at_fault_is_named() {
    let proto = proto("string id = 1;");
    for (setup, expected) in [
        (
            unreachable().record(&proto).with("RECORD__MESSAGE", "Thign"),
            "record.message: ",
        ),
        (
            unreachable().record(&proto).with("RECORD__MESSAGE", "Thign"),
            "with the option `record`: Thing",
        ),
        (
            unreachable().record(&proto).with("RECORD__INCLUDE", "/nowhere"),
            "record.include: /nowhere is not a folder",
        ),
        (
            unreachable().with("RECORD__PROTO", "/nowhere/orders.proto"),
            "record.proto: /nowhere/orders.proto is not a file",
        ),
        (
            unreachable().with("RECORD__MESSAGE", "shop.v1.Order"),
            "record.message: must not be set without record.proto",
        ),
    ] {
        let (code, log) = exit(setup).await;
        assert_eq!(code, Some(78), "{expected}: {log}");
        assert!(log.contains(expected), "{expected}: {log}");
    }
}

#[tokio::test]
async fn contract_is_a_message_with_imports_from_include_folders() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir_all(shared.join("shop")).unwrap();
    fs::write(
        shared.join("shop/color.proto"),
        "syntax = \"proto3\"; package shop; enum Color { RED = 0; GREEN = 1; }",
    )
    .unwrap();
    let option = |resource| {
        format!("option (affluent.options.v1.record) = {{ resource: \"{resource}\" key: \"id\" }};")
    };
    let file = folder.path().join("things.proto");
    let (things, parts) = (option("things"), option("parts"));
    fs::write(
        &file,
        format!(
            "{HEAD}import \"shop/color.proto\";\npackage shop;\nmessage Thing {{ {things} string id = 1; }}\n\
             message Part {{ {parts} int64 id = 1; Color color = 2; }}\n"
        ),
    )
    .unwrap();
    let topic = Topic::new(&broker::shared().await);
    let mut publisher = setup(&topic.brokers, &topic.name)
        .with("RECORD__PROTO", file.to_str().unwrap())
        .with(
            "RECORD__INCLUDE",
            &format!("{}, {}", folder.path().display(), shared.display()),
        )
        .with("RECORD__MESSAGE", "shop.Part")
        .start()
        .await;
    publisher.wait_until_ready().await;
    publisher.resource = "parts".to_owned();
    assert_eq!(publisher.send(&[json!({"id": 1, "color": "GREEN"})]).await.0, 200);
    assert_eq!(publisher.send(&[json!({"id": 1, "color": "BLUE"})]).await.0, 422);
    let records = topic.read().await;
    assert_eq!(records[0].headers["schema"], "shop.Part");
    assert_eq!(
        records[0].value.as_deref(),
        Some(br#"{"id":"1","color":"GREEN"}"#.as_slice())
    );
}

#[tokio::test]
async fn topic_has_the_name_of_the_resource() {
    let resource = format!("o{}", &Uuid::new_v4().simple().to_string()[..12]);
    let topic = Topic {
        brokers: broker::shared().await,
        name: format!("{resource}_created"),
    };
    let publisher = setup_without_topic(&topic.brokers)
        .record(&ORDERS.replace("\"orders\"", &format!("\"{resource}\"")))
        .start()
        .await;
    publisher.wait_until_ready().await;
    assert_eq!(publisher.send(&[order("c-1")]).await.0, 200);
    assert_eq!(topic.read().await[0].key, "c-1");
}

#[tokio::test]
async fn valid_contract_passes_the_check() {
    let (code, log) = exit(unreachable().record(ORDERS).arguments(&["--check-config"])).await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the configuration is valid"), "{log}");
}
