//! The choice of the contract: from a file, with imports and a message's name; and contracts that are refused.

use std::fs;

use serde_json::json;
use testkit::service::ServiceOptions;
use uuid::Uuid;

use crate::support::broker;
use crate::support::publisher_process::{Publisher, exit, setup, setup_without_topic, with_record};
use crate::support::sample_contracts::{ORDERS, order};
use crate::support::topic::Topic;

const HEAD: &str = "syntax = \"proto3\";\nimport \"affluent/options/v1/options.proto\";\n";

/// A message with these fields from line 4 on; the key is `id`.
fn proto(fields: &str) -> String {
    let option = "option (affluent.options.v1.record) = { resource: \"things\" key: \"id\" };";
    format!("{HEAD}message Thing {{ {option}\n{fields}\n}}\n")
}

fn unreachable() -> ServiceOptions {
    setup("127.0.0.1:1", "nowhere")
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
            let setup = with_record(unreachable(), &proto);
            let (code, log) = exit(&arguments.iter().copied().fold(setup, ServiceOptions::arg)).await;
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
            with_record(unreachable(), &proto).set("record.message", "Thign"),
            "record.message: ",
        ),
        (
            with_record(unreachable(), &proto).set("record.message", "Thign"),
            "with the option `record`: Thing",
        ),
        (
            with_record(unreachable(), &proto).set("record.include", "/nowhere"),
            "record.include: /nowhere is not a folder",
        ),
        (
            unreachable().set("record.proto", "/nowhere/orders.proto"),
            "record.proto: /nowhere/orders.proto is not a file",
        ),
        (
            unreachable().set("record.message", "shop.v1.Order"),
            "record.message: must not be set without record.proto",
        ),
    ] {
        let (code, log) = exit(&setup).await;
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
    let mut publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .set("record.proto", file.to_str().unwrap())
            .set(
                "record.include",
                format!("{}, {}", folder.path().display(), shared.display()),
            )
            .set("record.message", "shop.Part"),
    )
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
    let proto = ORDERS.replace("\"orders\"", &format!("\"{resource}\""));
    let setup = with_record(setup_without_topic(&topic.brokers), &proto);
    let publisher = Publisher {
        resource,
        ..Publisher::start(&setup).await
    };
    publisher.wait_until_ready().await;
    assert_eq!(publisher.send(&[order("c-1")]).await.0, 200);
    assert_eq!(topic.read().await[0].key, "c-1");
}

#[tokio::test]
async fn valid_contract_passes_the_check() {
    let (code, log) = exit(&with_record(unreachable(), ORDERS).arg("--check-config")).await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the configuration is valid"), "{log}");
}
