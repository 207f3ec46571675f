//! Messages that can't be a record: the error names the line, the field and the remedy.

use std::fs;
use std::path::PathBuf;

use model::{Contract, ContractError};

const HEAD: &str = r#"syntax = "proto3";
import "affluent/options/v1/options.proto";
import "google/protobuf/timestamp.proto";
"#;

/// The error of a message with these fields, whose key is `id` on line 5.
fn error_of(fields: &str) -> String {
    error_with("key: \"id\"", &format!("string id = 1;\n{fields}"))
}

fn error_with(record: &str, fields: &str) -> String {
    let option = format!("option (affluent.options.v1.record) = {{ resource: \"things\" {record} }};");
    let source = format!("{HEAD}message Thing {{ {option}\n{fields}\n}}\n");
    match Contract::from_source(&source) {
        Ok(contract) => panic!("{contract:?} is accepted: {source}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn refused_fields_are_named_with_line_and_remedy() {
    for (fields, parts) in [
        (
            "message Inner { string a = 1; }\n Inner inner = 2;",
            &[
                "record.proto:7: field `inner`",
                "nested message `Thing.Inner`",
                "give its fields",
            ][..],
        ),
        ("uint64 n = 2;", &["record.proto:6: field `n`", "use int64"]),
        ("fixed64 n = 2;", &["field `n`", "use int64"]),
        ("repeated fixed64 n = 2;", &["field `n`", "use int64"]),
        ("map<string, uint64> n = 2;", &["field `n`", "use int64"]),
        (
            "map<int32, string> n = 2;",
            &["field `n`", "keys of a map", "map<string"],
        ),
        (
            "oneof choice { string a = 2; string b = 3; }",
            &["oneof `choice`", "`optional`"],
        ),
        ("string ingested_at = 2;", &["field `ingested_at`", "rename"]),
        (
            "enum E { option allow_alias = true; A = 0; B = 0; }\n E e = 2;",
            &["field `e`", "two names for one number", "aliases"],
        ),
        (
            "int32 n = 2 [(affluent.options.v1.rule).max_length = 3];",
            &["field `n`", "for strings"],
        ),
        (
            "bool n = 2 [(affluent.options.v1.rule).format = EMAIL];",
            &["field `n`", "for strings"],
        ),
        (
            "bytes n = 2 [(affluent.options.v1.rule).format = UUID];",
            &["field `n`", "for strings"],
        ),
        (
            "string n = 2 [(affluent.options.v1.rule) = { format: UUID max_length: 3 }];",
            &["field `n`", "do not fit a uuid"],
        ),
        // The compiler's own errors have the place, too.
        ("string id = 2;", &["record.proto:6", "id"]),
        (
            "string firstName = 2; string first_name = 3;",
            &["record.proto:6", "firstName"],
        ),
        ("Missing m = 2;", &["record.proto:6", "Missing"]),
        ("string n = 1;", &["record.proto:6", "1"]),
        ("string n", &["record.proto:7"]),
    ] {
        let error = error_of(fields);
        for part in parts {
            assert!(error.contains(part), "{fields}: no {part:?} in {error:?}");
        }
    }
}

#[test]
fn refused_keys_are_named_with_line_and_remedy() {
    let key = |field: &str| error_with("key: \"k\"", field);
    for (error, parts) in [
        (
            error_with("", "string id = 1;"),
            &["message `Thing`", "no key", "key: "][..],
        ),
        (
            error_with("key: \"nope\"", "string id = 1;"),
            &["record.proto:4", "the key `nope` is not one"],
        ),
        (
            key("optional string k = 1;"),
            &[
                "record.proto:5: field `k`",
                "every record has",
                "remove `optional`",
            ],
        ),
        (key("repeated string k = 1;"), &["field `k`", "one value"]),
        (key("map<string, string> k = 1;"), &["field `k`", "one value"]),
        (
            key("float k = 1;"),
            &["field `k`", "can't be of type float", "a uuid, or an integer"],
        ),
        (key("bool k = 1;"), &["can't be of type bool"]),
        (key("bytes k = 1;"), &["can't be of type bytes"]),
        (
            key("google.protobuf.Timestamp k = 1;"),
            &["can't be of type google.protobuf.Timestamp"],
        ),
        (key("enum E { A = 0; } E k = 1;"), &["can't be of type enum"]),
        (
            key("string k = 1 [(affluent.options.v1.rule).personal = true];"),
            &["field `k`", "personal"],
        ),
        (
            key("string k = 1 [(affluent.options.v1.rule).max_length = 20000];"),
            &["16383 characters", "max_length"],
        ),
        (
            error_with("key: \"a\" clustering: \"a\"", "string a = 1;"),
            &["field `a`", "twice"],
        ),
        (
            error_with("key: \"a\" clustering: \"b\"", "string a = 1; double b = 2;"),
            &[
                "field `b`",
                "a clustering field can't be of type double",
                "a Timestamp",
            ],
        ),
        (
            error_with("key: \"a\" clustering: \"c\"", "string a = 1;"),
            &["the clustering field `c` is not one"],
        ),
        (
            error_with("key: \"a\"", ""),
            &["the key `a` is not one of its fields"],
        ),
    ] {
        for part in parts {
            assert!(error.contains(part), "no {part:?} in {error:?}");
        }
    }
    for resource in ["", "Orders", "schema", "1st", "a/b", "users?", &"a".repeat(33)] {
        let source = format!(
            "{HEAD}message M {{ option (affluent.options.v1.record) = {{ resource: \"{resource}\" key: \"id\" }};
            string id = 1; }}"
        );
        let error = Contract::from_source(&source).unwrap_err().to_string();
        assert!(error.contains("can't be the resource"), "{resource}: {error}");
    }
}

#[test]
fn number_of_fields_is_limited() {
    let fields = |count: usize| -> String {
        (0..count)
            .map(|index| format!("int32 f{index} = {};\n", index + 2))
            .collect()
    };
    let error = error_of(&fields(300));
    assert!(
        error.contains("301 fields") && error.contains("256") && error.contains("split"),
        "{error}"
    );
    let option = "option (affluent.options.v1.record) = { resource: \"m\" key: \"id\" };";
    let widest = format!("{HEAD}message M {{ {option} string id = 1; {} }}", fields(255));
    assert_eq!(Contract::from_source(&widest).unwrap().fields().len(), 256);
}

#[test]
fn reserved_words_and_upper_case_are_names() {
    let option = "option (affluent.options.v1.record) = { resource: \"m\" key: \"Table\" };";
    let source =
        format!("{HEAD}message M {{ {option} string Table = 1; int32 select = 2; int32 token = 3; }}");
    let contract = Contract::from_source(&source).unwrap();
    assert_eq!(contract.slot("token"), Some(2));
    assert_eq!(contract.slot("table"), None);
}

#[test]
fn only_proto3_is_read() {
    let option = "option (affluent.options.v1.record) = { resource: \"m\" key: \"id\" };";
    let source = format!(
        "syntax = \"proto2\";\nimport \"affluent/options/v1/options.proto\";\nmessage M {{ {option} required string id = 1; }}"
    );
    let error = Contract::from_source(&source).unwrap_err().to_string();
    assert!(
        error.contains("record.proto:3") && error.contains("syntax = \"proto3\""),
        "{error}"
    );
}

#[test]
fn message_is_chosen_by_name_or_is_the_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let option = "option (affluent.options.v1.record) = { resource: \"m\" key: \"id\" };";
    let body = format!("{option} string id = 1;");
    let package = "package p;\n";
    fs::write(
        path("one.proto"),
        format!("{HEAD}{package}message A {{ {body} }} message B {{ string x = 1; }}"),
    )
    .unwrap();
    fs::write(
        path("two.proto"),
        format!("{HEAD}{package}message C {{ {body} }} message D {{ {body} }}"),
    )
    .unwrap();
    let load = |file: &str, message| Contract::load(&path(file), &[], message);
    assert_eq!(load("one.proto", None).unwrap().name(), "p.A");
    assert_eq!(load("two.proto", Some("p.D")).unwrap().name(), "p.D");
    let Err(ContractError::NotOneMessage { count: 2, .. }) = load("two.proto", None) else {
        panic!("the message is ambiguous")
    };
    let error = load("two.proto", Some("p.E")).unwrap_err().to_string();
    assert!(error.contains("p.C, p.D"), "{error}");
    let error = load("one.proto", Some("p.B")).unwrap_err().to_string();
    assert!(
        error.contains("no option `record`") && error.contains("one.proto:5"),
        "{error}"
    );
}

#[test]
fn imports_are_searched_in_the_include_folders() {
    let folder = tempfile::tempdir().unwrap();
    let (main, other) = (folder.path().join("main"), folder.path().join("other"));
    fs::create_dir_all(main.join("shop")).unwrap();
    fs::create_dir_all(other.join("shared")).unwrap();
    let file = main.join("shop/order.proto");
    fs::write(
        &file,
        format!(
            "{HEAD}import \"shared/color.proto\";\nmessage Order {{
            option (affluent.options.v1.record) = {{ resource: \"orders\" key: \"id\" }};
            string id = 1; shared.Color color = 2; }}"
        ),
    )
    .unwrap();
    fs::write(
        other.join("shared/color.proto"),
        "syntax = \"proto3\"; package shared; enum Color { RED = 0; }",
    )
    .unwrap();
    let include = |folders: &[&PathBuf]| -> Vec<PathBuf> { folders.iter().map(|&it| it.clone()).collect() };
    let contract = Contract::load(&file, &include(&[&main, &other]), None).unwrap();
    assert_eq!(contract.fields().len(), 2);
    let error = Contract::load(&file, &include(&[&main]), None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("order.proto:4") && error.contains("shared/color.proto"),
        "{error}"
    );
    let missing = folder.path().join("missing.proto");
    let error = Contract::load(&missing, &[], None).unwrap_err().to_string();
    assert!(error.contains("missing.proto"), "{error}");
}
