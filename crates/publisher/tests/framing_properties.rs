//! Property tests of the framing of bodies: it never panics, and agrees with `serde_json` on what is JSON.
//!
//! `PROPTEST_CASES` sets the number of cases of each property; `PROPTEST_CASES=3400000` runs ten million in total.

use std::sync::LazyLock;

use model::Contract;
use proptest::collection::vec;
use proptest::prelude::*;
use publisher::request::framing::{Format, FramingError};
use serde::de::IgnoredAny;
use serde_json::Value;
use testkit::process::usage::peak_mib;

const LIMIT: usize = 8;

/// A contract of which some bodies have canonical records, unlike of the user.
static TEXT: LazyLock<Contract> = LazyLock::new(|| {
    let proto = "syntax = \"proto3\"; import \"affluent/options/v1/options.proto\"; message Text {
        option (affluent.options.v1.record) = { resource: \"texts\" key: \"id\" }; string id = 1; }";
    Contract::from_source(proto).expect("it is a contract")
});

/// Tokens of JSON, and texts that resemble them.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\r\n",
        "\t",
        "null",
        "true",
        "0",
        "-",
        "1e999",
        "1.5",
        "01",
        "\"",
        "\"a\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\\",
        "{}",
        "[]",
        "{\"id\":\"x\"}",
        "\u{feff}",
        "é",
        "/*",
    ]);
    prop_oneof![
        8 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
        1 => (1usize..2_000).prop_map(|levels| [b"[".repeat(levels), b"]".repeat(levels)].concat()),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let free = vec(piece(), 0..24).prop_map(|pieces| pieces.concat());
    let array = vec(json(), 0..12).prop_map(|values| Value::Array(values).to_string().into_bytes());
    let lines = vec(json(), 0..12).prop_map(|values| {
        let lines: Vec<_> = values.iter().map(ToString::to_string).collect();
        lines.join("\n").into_bytes()
    });
    prop_oneof![4 => free, 2 => array, 1 => lines]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((".{0,4}", inner), 0..4).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Whether a body is a JSON text (RFC 8259): well-formed and in UTF-8.
fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok() && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

#[test]
fn memory_is_at_most_a_few_times_the_body() {
    const MIB: usize = 16;
    let filled = |part: &[u8]| part.repeat((MIB << 20) / part.len());
    let peak = || peak_mib(std::process::id()).unwrap();
    let before = peak();
    for part in [
        b"[".as_slice(),
        b"{\"a\":",
        b"[[],",
        b"\"",
        b"\\u",
        b"[0,",
        b"{}\n",
        b"0,",
    ] {
        for (format, body) in [
            (Format::Json, filled(part)),
            (Format::Json, [b"[".to_vec(), filled(part)].concat()),
            (Format::Ndjson, filled(part)),
        ] {
            drop(format.split(&TEXT, &body, 20_000));
        }
    }
    let grown = peak() - before;
    assert!(grown <= 6.0 * 16.0, "{grown} MiB for bodies of {MIB} MiB");
}

proptest! {
    #[test]
    fn json_records_match_serde_json(body in body()) {
        match Format::Json.split(&TEXT, &body, LIMIT) {
            Ok(records) => {
                prop_assert!(is_json(&body));
                prop_assert!(!records.is_empty() && records.len() <= LIMIT);
                // Parsing the whole body may fail on an escape or on its depth, even if it is well-formed.
                if let Ok(whole) = serde_json::from_slice::<Value>(&body) {
                    let parsed: Vec<Value> =
                        records.iter().map(|record| serde_json::from_slice(record).unwrap()).collect();
                    prop_assert_eq!(if whole.is_array() { Value::Array(parsed) } else { parsed[0].clone() }, whole);
                }
            }
            Err(FramingError::NotJson { line, .. }) => {
                prop_assert!(!is_json(&body));
                prop_assert!(line >= 1);
            }
            Err(FramingError::Empty) => {
                prop_assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), Value::Array(vec![]));
            }
            // The rest of the body after the limit is not read.
            Err(FramingError::TooMany { limit }) => prop_assert_eq!(limit, LIMIT),
        }
    }

    #[test]
    fn every_non_blank_line_is_a_record(body in body()) {
        let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let lines: Vec<_> = lines.collect();
        match Format::Ndjson.split(&TEXT, &body, LIMIT) {
            Ok(records) => prop_assert_eq!(records, lines),
            Err(FramingError::Empty) => prop_assert!(lines.is_empty()),
            Err(FramingError::TooMany { .. }) => prop_assert!(lines.len() > LIMIT),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn parser_never_panics_and_quotes_no_value(body in body(), secret in "[a-z]{12}") {
        let body = String::from_utf8_lossy(&body).replace("\"a\"", &format!("\"{secret}\"")).into_bytes();
        for format in [Format::Json, Format::Ndjson] {
            for record in format.split(&TEXT, &body, LIMIT).unwrap_or_default() {
                if let Err(invalid) = Contract::user().parse_strict(record) {
                    prop_assert!(invalid.errors().iter().all(|error| !error.reason.to_string().contains(&secret)));
                }
            }
        }
    }
}
