//! Validation errors: which error is reported, its text, and what it never quotes.

use std::collections::BTreeSet;

use model::{Invalid, Reason};

use crate::any_record::{FIELDS, RawRecord, contract, object, quoted, slot};

fn errors(json: impl AsRef<[u8]>) -> [Invalid; 2] {
    let json = json.as_ref();
    [
        contract().parse_strict(json).unwrap_err(),
        contract().parse_lenient(json).unwrap_err(),
    ]
}

/// Both parsers refuse `json` with this text.
fn assert_refused(json: impl AsRef<[u8]>, text: &str, label: &str) -> [Invalid; 2] {
    let errors = errors(json);
    for error in &errors {
        assert_eq!(error.errors()[0].to_string(), text);
        assert_eq!(error.reason().label(), label);
        assert!(Reason::LABELS.contains(&label));
    }
    errors
}

#[test]
fn each_rule_has_its_text_and_its_label() {
    let plain = RawRecord::plain;
    for (field, value, text, label) in [
        ("first_name", quoted(" "), "first_name: is blank", "blank"),
        ("address", quoted(""), "address: is blank", "blank"),
        (
            "phone",
            quoted(&"é".repeat(513)),
            "phone: is longer than 512 characters",
            "too_long",
        ),
        (
            "gender",
            "\"a\\u0000\"".into(),
            "gender: has a NUL character",
            "nul_character",
        ),
        ("id", quoted("42"), "id: is not a hyphenated uuid", "not_a_uuid"),
        (
            "id",
            quoted("00000000-0000-0000-0000-000000000000"),
            "id: is the nil uuid",
            "nil_uuid",
        ),
        (
            "email",
            quoted("a@b@c"),
            "email: is not an e-mail address: one @ between two non-empty parts",
            "not_an_email",
        ),
        (
            "dob",
            quoted("yesterday"),
            "dob: is not an RFC 3339 instant such as 2024-02-29T23:59:59.123Z",
            "not_an_instant",
        ),
        (
            "registered_date",
            quoted("0000-01-01T00:00:00Z"),
            "registered_date: is outside the years 0001 to 9999 UTC",
            "out_of_range",
        ),
        (
            "registered_date",
            quoted(""),
            "registered_date: is not an RFC 3339 instant such as 2024-02-29T23:59:59.123Z",
            "not_an_instant",
        ),
        (
            "registered_date",
            "null".into(),
            "registered_date: must be a string, not null",
            "wrong_type",
        ),
        (
            "picture",
            "null".into(),
            "picture: must be a string, not null",
            "wrong_type",
        ),
        (
            "username",
            "true".into(),
            "username: must be a string, not a boolean",
            "wrong_type",
        ),
        (
            "last_name",
            "[\"x\"]".into(),
            "last_name: must be a string, not an array",
            "wrong_type",
        ),
        (
            "post_code",
            "{\"a\":1}".into(),
            "post_code: must be a string, not an object",
            "wrong_type",
        ),
        (
            "dob",
            "1e999".into(),
            "dob: must be a string, not a number",
            "wrong_type",
        ),
        (
            "first_name",
            "\"\\ud800\"".into(),
            "first_name: has an escape that is not a character",
            "bad_escape",
        ),
    ] {
        for error in assert_refused(plain().json_with(field, &value), text, label) {
            let known = (field != "id").then(|| plain().record().key());
            assert_eq!(error.key().cloned(), known, "{text}");
        }
    }
}

#[test]
fn missing_required_field_is_refused() {
    for field in FIELDS
        .into_iter()
        .filter(|field| contract().fields()[slot(field)].is_required())
    {
        let members = RawRecord::plain().without(field).members();
        assert_refused(object(&members), &format!("{field}: is missing"), "missing");
    }
}

#[test]
fn duplicate_field_is_refused() {
    for field in FIELDS {
        let mut members = RawRecord::plain().members();
        members.push(members[slot(field)].clone());
        let text = format!("{field}: is given more than once");
        for error in assert_refused(object(&members), &text, "duplicate_field") {
            assert_eq!(
                error.key().is_some(),
                field != "id",
                "a second id makes the id ambiguous"
            );
        }
    }
}

#[test]
fn text_that_is_not_an_object_is_refused_with_its_position() {
    let record = object(&RawRecord::plain().members());
    for (json, text) in [
        (
            "",
            "is not valid JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{\n\"id\" 1}",
            "is not valid JSON: expected `:` at line 2 column 6",
        ),
        (
            "{\"id\":\"x\",}",
            "is not valid JSON: trailing comma at line 1 column 11",
        ),
        (
            "{\"id\":\"a\u{1}\"}",
            "is not valid JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 8",
        ),
        (
            "{1:2}",
            "is not valid JSON: key must be a string at line 1 column 2",
        ),
        (
            "\u{feff}{}",
            "is not valid JSON: expected value at line 1 column 1",
        ),
        ("NaN", "is not valid JSON: expected value at line 1 column 1"),
        (
            &format!("{record}x"),
            &format!(
                "is not valid JSON: trailing characters at line 1 column {}",
                record.len() + 1
            ),
        ),
    ] {
        assert_refused(json, text, "malformed");
    }
    for json in ["null", "\"secret\"", "42", "[]", "[{}]", "true"] {
        assert_refused(json, "is not a JSON object", "not_an_object");
    }
    assert_refused(
        b"{\"id\":\"\xff\"}",
        "is not valid UTF-8 from byte 7 on",
        "not_utf8",
    );
}

#[test]
fn id_is_known_at_any_position() {
    let id = RawRecord::plain().record().key();
    let mut members = RawRecord::plain().json_with("first_name", "\"\"");
    assert_eq!(
        errors(&members).map(|error| error.key().cloned()),
        [Some(id.clone()), Some(id.clone())]
    );

    members = {
        let mut members = RawRecord::plain().with("first_name", "").members();
        members.rotate_left(1);
        members.insert(0, ("\"typo\"".into(), "1".into()));
        object(&members)
    };
    let [strict, lenient] = errors(&members);
    assert_eq!(
        strict.to_string(),
        "typo: is not a field of the record; first_name: is blank"
    );
    assert_eq!(lenient.to_string(), "first_name: is blank");
    assert_eq!(
        [strict.key().cloned(), lenient.key().cloned()],
        [Some(id.clone()), Some(id.clone())]
    );

    let cut_off = &members.as_bytes()[..members.len() - 1];
    assert_eq!(
        errors(cut_off).map(|error| error.key().cloned()),
        [Some(id.clone()), Some(id)]
    );
}

#[test]
fn all_errors_are_reported_in_the_documented_order() {
    let plain = RawRecord::plain().with("id", "x").with("email", "x");
    let texts = |json: &str| -> [Vec<String>; 2] {
        errors(json).map(|error| error.errors().iter().map(ToString::to_string).collect())
    };
    let id = "id: is not a hyphenated uuid";
    let email = "email: is not an e-mail address: one @ between two non-empty parts";
    assert_eq!(texts(&object(&plain.members())), [[id, email]; 2]);
    let json = plain.json_with("phone", "1");
    let phone = "phone: must be a string, not a number";
    assert_eq!(texts(&json), [[phone, id, email]; 2]);
    let json = json.replace('}', ",\"phone\":2,\"gender\":\"x\",\"phone\":3}");
    let twice = [
        "phone: is given more than once",
        "gender: is given more than once",
    ];
    assert_eq!(texts(&json), [[twice[0], twice[1], phone, id, email]; 2]);
    let [strict, lenient] = texts(&json.replace('}', ",\"b\":2,\"a\":1}"));
    let unknown = [
        "b: is not a field of the record",
        "a: is not a field of the record",
    ];
    assert_eq!(
        strict,
        [unknown[0], unknown[1], twice[0], twice[1], phone, id, email]
    );
    assert_eq!(lenient, [twice[0], twice[1], phone, id, email]);
}

#[test]
fn at_most_eight_errors_are_reported() {
    let [strict, _] = errors("{}");
    let names: Vec<_> = strict
        .errors()
        .iter()
        .map(|error| error.field.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(names, FIELDS[..8]);
    let unknown: String = (0..20).map(|index| format!("\"u{index}\":1,")).collect();
    let [strict, lenient] = errors(format!("{{{unknown}\"id\":1}}"));
    assert_eq!(strict.errors().len(), 8);
    assert_eq!(strict.errors()[7].to_string(), "u7: is not a field of the record");
    assert_eq!(
        lenient.errors()[0].to_string(),
        "id: must be a string, not a number"
    );
}

#[test]
fn deeply_nested_and_huge_input_is_refused() {
    let nested = "{\"a\":".repeat(10_000) + &"}".repeat(10_000);
    assert_eq!(errors(&nested)[0].reason().label(), "malformed");
    let closed = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let json = RawRecord::plain().json_with("first_name", &closed);
    assert_refused(json, "first_name: must be a string, not an array", "wrong_type");
    let long = quoted(&"x".repeat(10 << 20));
    let json = RawRecord::plain().json_with("first_name", &long);
    assert_refused(json, "first_name: is longer than 512 characters", "too_long");
}

#[test]
fn name_of_an_unknown_field_is_truncated_and_sanitized() {
    let name = format!(
        "{}\u{202e}\u{1b}[31m\n{}",
        "n".repeat(60),
        "secret".repeat(100_000)
    );
    let error = contract()
        .parse_strict(format!("{{{}:1}}", quoted(&name)).as_bytes())
        .unwrap_err();
    assert_eq!(
        error.errors()[0].to_string(),
        format!("{}??[3…: is not a field of the record", "n".repeat(60))
    );
}

#[test]
fn labels_are_distinct_and_valid_for_metrics() {
    let labels = BTreeSet::from(Reason::LABELS);
    assert_eq!(labels.len(), Reason::LABELS.len());
    assert!(labels.iter().all(|label| {
        label
            .chars()
            .all(|c| c.is_ascii_lowercase() || "_864".contains(c))
    }));
}
