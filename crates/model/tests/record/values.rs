//! Each type at its edges: what is read, how it is written, and what is refused.

use model::{Contract, Value};

const SOURCE: &str = r#"syntax = "proto3";
import "affluent/options/v1/options.proto";
import "google/protobuf/timestamp.proto";
enum Color { COLOR_NONE = 0; RED = 4; }
message Edge {
  option (affluent.options.v1.record) = { resource: "edges" key: "id" };
  int64 id = 1;
  optional int32 int32 = 2;
  optional uint32 uint32 = 3;
  optional float float = 4;
  optional double double = 5;
  optional bytes bytes = 6;
  optional Color color = 7;
  optional bool bool = 8;
  optional google.protobuf.Timestamp at = 9;
  optional string text = 10 [(affluent.options.v1.rule).max_length = 70000];
  repeated string texts = 11;
  repeated double doubles = 12;
  map<string, int64> numbers = 13;
  map<string, string> emails = 14 [(affluent.options.v1.rule).format = EMAIL];
}"#;

fn contract() -> Contract {
    Contract::from_source(SOURCE).unwrap()
}

/// How a field's value is written by a strict reader, or its error.
fn strict(contract: &Contract, field: &str, value: &str) -> Result<String, String> {
    read(contract, field, value, true)
}

fn lenient(contract: &Contract, field: &str, value: &str) -> Result<String, String> {
    read(contract, field, value, false)
}

fn read(contract: &Contract, field: &str, value: &str, is_strict: bool) -> Result<String, String> {
    let id = if field == "id" {
        String::new()
    } else {
        "\"id\":1,".to_owned()
    };
    let json = format!("{{{id}\"{field}\":{value}}}");
    let record = if is_strict {
        contract.parse_strict(json.as_bytes())
    } else {
        contract.parse_lenient(json.as_bytes())
    };
    let json = record.map_err(|error| error.to_string())?.to_json();
    let json: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_slice(&json).unwrap();
    Ok(json[field].get().to_owned())
}

#[test]
fn values_are_written_canonically() {
    let contract = contract();
    for (field, value, written) in [
        ("id", "9007199254740993", "\"9007199254740993\""),
        ("id", "\"9007199254740993\"", "\"9007199254740993\""),
        ("id", "\"-9223372036854775808\"", "\"-9223372036854775808\""),
        ("int32", "\"12\"", "12"),
        ("uint32", "4294967295", "4294967295"),
        ("float", "-0.0", "0.0"),
        ("float", "16777217", "16777216.0"),
        ("float", "0.1", "0.1"),
        ("float", "1E+2", "100.0"),
        ("double", "-0", "0.0"),
        ("double", "1e-7", "1e-7"),
        ("double", "1e-400", "0.0"),
        ("double", "9999999999999998", "9999999999999998.0"),
        ("double", "10000000000000000", "1e+16"),
        ("double", "1.7976931348623157E308", "1.7976931348623157e+308"),
        ("double", "0.00001", "0.00001"),
        ("double", "0.000001", "1e-6"),
        ("float", "1e13", "1e+13"),
        ("float", "3.4028235e38", "3.4028235e+38"),
        ("double", "0.1000000000000000055511151231257827", "0.1"),
        ("bytes", "\"AA\"", "\"AA==\""),
        ("bytes", "\"_-8=\"", "\"/+8=\""),
        ("bytes", "\"\"", "\"\""),
        ("color", "\"COLOR_NONE\"", "\"COLOR_NONE\""),
        ("bool", "false", "false"),
        (
            "at",
            "\"2024-02-29T23:59:59.1239999+01:00\"",
            "\"2024-02-29T22:59:59.123Z\"",
        ),
        ("texts", "[]", "[]"),
        ("texts", "[ \"b\" , \"\\u0061\" ]", "[\"b\",\"a\"]"),
        ("numbers", "{}", "{}"),
        ("emails", r#"{"home":"a@b"}"#, r#"{"home":"a@b"}"#),
        (
            "numbers",
            r#"{"\u00e9":1,"a\"":"2","a":3}"#,
            r#"{"a":"3","a\"":"2","é":"1"}"#,
        ),
    ] {
        assert_eq!(
            strict(&contract, field, value).as_deref(),
            Ok(written),
            "{field}: {value}"
        );
        assert_eq!(
            lenient(&contract, field, value).as_deref(),
            Ok(written),
            "{field}: {value}"
        );
    }
}

#[test]
fn refused_values_have_their_reason() {
    let contract = contract();
    let integer = "is not an integer: decimal digits without a fraction or an exponent";
    for (field, value, reason) in [
        ("id", "9223372036854775808", "is outside the range of int64"),
        ("id", "7e0", integer),
        ("id", "7.0", integer),
        ("id", "\"+7\"", integer),
        ("id", "\"\"", integer),
        ("id", "\" 7\"", integer),
        ("id", "true", "must be an integer, not a boolean"),
        ("id", "null", "must be an integer, not null"),
        ("int32", "2147483648", "is outside the range of int32"),
        ("uint32", "-1", "is outside the range of uint32"),
        ("uint32", "4294967296", "is outside the range of uint32"),
        ("float", "1e39", "is outside the range of float"),
        ("double", "1e999", "is outside the range of double"),
        ("double", "\"NaN\"", "must be a number, not a string"),
        ("double", "\"1.5\"", "must be a number, not a string"),
        ("double", "null", "must be a number, not null"),
        ("bytes", "\"AB==\"", "is not base64"),
        ("bytes", "\"A\"", "is not base64"),
        ("bytes", "\"+_8=\"", "is not base64"),
        ("bytes", "\"AA= =\"", "is not base64"),
        ("bytes", "1", "must be a string, not a number"),
        ("color", "\"BLUE\"", "is not a name of the enum"),
        ("color", "4", "must be a string, not a number"),
        ("bool", "\"true\"", "must be a boolean, not a string"),
        ("bool", "0", "must be a boolean, not a number"),
        (
            "at",
            "\"0000-12-31T23:59:59Z\"",
            "is outside the years 0001 to 9999 UTC",
        ),
        ("texts", "\"a\"", "must be an array, not a string"),
        ("texts", "null", "must be an array, not null"),
        ("texts", "[\"a\",null]", "element 1 must be a string, not null"),
        ("texts", "[\"a\",\"b\",\" \"]", "element 2 is blank"),
        ("texts", "[[\"a\"]]", "element 0 must be a string, not an array"),
        ("doubles", "[1,1e999]", "element 1 is outside the range of double"),
        ("numbers", "[]", "must be an object, not an array"),
        (
            "numbers",
            r#"{"a":null}"#,
            "element 0 must be an integer, not null",
        ),
        ("numbers", r#"{"a":1,"\u0061":2}"#, "has a key more than once"),
        ("numbers", r#"{"":1}"#, "element 0 is blank"),
        (
            "numbers",
            r#"{"\ud800":1}"#,
            "has an escape that is not a character",
        ),
    ] {
        let expected = format!("{field}: {reason}");
        assert_eq!(
            strict(&contract, field, value),
            Err(expected.clone()),
            "{field}: {value}"
        );
        assert_eq!(
            lenient(&contract, field, value),
            Err(expected),
            "{field}: {value}"
        );
    }
}

#[test]
fn only_a_lenient_reader_takes_integers_in_another_form() {
    let contract = contract();
    for (field, value, written) in [
        ("id", "\"007\"", "\"7\""),
        ("id", "-0", "\"0\""),
        ("id", "\"-007\"", "\"-7\""),
        ("int32", "\"00\"", "0"),
    ] {
        let reason = format!("{field}: is not an integer in its shortest form");
        assert_eq!(strict(&contract, field, value), Err(reason), "{value}");
        assert_eq!(
            lenient(&contract, field, value).as_deref(),
            Ok(written),
            "{value}"
        );
    }
    assert!(contract.parse_key_strict(b"007").is_err() && contract.parse_key_strict(b"7.0").is_err());
    assert_eq!(contract.parse_key(b"007").unwrap().to_string(), "7");
    assert!(contract.parse_key(b"7e0").is_err() && contract.parse_key(&[0, 0, 0, 7]).is_err());
    assert!(contract.parse_key(b"\xff").is_err());
}

#[test]
fn absent_fields_are_null_or_empty() {
    let contract = contract();
    let record = contract.parse_strict(br#"{"id":1}"#).unwrap();
    assert_eq!(
        record.to_json(),
        br#"{"id":"1","texts":[],"doubles":[],"numbers":{},"emails":{}}"#
    );
    assert_eq!(record.value(1), &Value::Absent);
    let bound = |slot| {
        let mut wire = vec![];
        record.bind(slot, false, &mut wire);
        wire
    };
    assert_eq!(bound(1), [0xff; 4], "null");
    assert_eq!(bound(10), [0, 0, 0, 4, 0, 0, 0, 0], "an empty frozen list");
}

#[test]
fn cql_values_are_those_of_the_native_protocol() {
    let contract = contract();
    let json = br#"{"id":1,"int32":-1,"uint32":4294967295,"float":1.5,"double":-2,"bytes":"AQI=","color":"RED","bool":true,
        "at":"1970-01-01T00:00:00.001Z","text":"a","texts":["b","cc"],"doubles":[1],"numbers":{"b":2,"a":1}}"#;
    let record = contract.parse_strict(json).unwrap();
    let bound = |slot| {
        let mut wire = vec![];
        record.bind(slot, false, &mut wire);
        assert_eq!(wire[..4], u32::try_from(wire.len() - 4).unwrap().to_be_bytes());
        wire.split_off(4)
    };
    assert_eq!(bound(0), 1_i64.to_be_bytes());
    assert_eq!(bound(1), (-1_i32).to_be_bytes());
    assert_eq!(bound(2), 4_294_967_295_i64.to_be_bytes());
    assert_eq!(bound(3), 1.5_f32.to_be_bytes());
    assert_eq!(bound(4), (-2_f64).to_be_bytes());
    assert_eq!(bound(5), [1, 2]);
    assert_eq!(bound(6), *b"RED");
    assert_eq!(bound(7), [1]);
    assert_eq!(bound(8), 1_i64.to_be_bytes());
    assert_eq!(bound(9), *b"a");
    assert_eq!(bound(10), *b"\0\0\0\x02\0\0\0\x01b\0\0\0\x02cc");
    assert_eq!(
        bound(11),
        [&[0, 0, 0, 1, 0, 0, 0, 8][..], &1_f64.to_be_bytes()].concat()
    );
    let entries = [
        &b"\0\0\0\x02\0\0\0\x01a\0\0\0\x08"[..],
        &1_i64.to_be_bytes(),
        b"\0\0\0\x01b\0\0\0\x08",
        &2_i64.to_be_bytes(),
    ];
    assert_eq!(bound(12), entries.concat());
    let mut text = vec![];
    record.bind(8, true, &mut text);
    assert_eq!(text[4..], *b"1970-01-01T00:00:00.001Z");
}

#[test]
fn record_of_64_kib_is_read_whole() {
    let contract = contract();
    let text = "é".repeat(32 * 1024);
    let json = format!("{{\"id\":1,\"text\":\"{text}\"}}");
    let record = contract.parse_strict(json.as_bytes()).unwrap();
    assert_eq!(record.value(9), &Value::Text(text.as_str().into()));
    let canonical = record.to_json();
    assert_eq!(contract.parse_canonical(&canonical), Some(record));
    let long = format!("{{\"id\":1,\"text\":\"{}\"}}", "x".repeat(70_001));
    assert_eq!(
        contract.parse_strict(long.as_bytes()).unwrap_err().to_string(),
        "text: is longer than 70000 characters"
    );
}
