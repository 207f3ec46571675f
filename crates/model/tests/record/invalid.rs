//! Validation errors: which error is reported, its text, and what it never quotes.

use std::collections::BTreeSet;

use model::{Field, Invalid, Reason, User};

use crate::any_record::{RawRecord, object, quoted};

fn errors(json: impl AsRef<[u8]>) -> [Invalid; 2] {
    let json = json.as_ref();
    [
        User::parse_strict(json).unwrap_err(),
        User::parse_lenient(json).unwrap_err(),
    ]
}

/// Both parsers refuse `json` with this text.
fn assert_refused(json: impl AsRef<[u8]>, text: &str, label: &str) -> [Invalid; 2] {
    let errors = errors(json);
    for error in &errors {
        assert_eq!(error.to_string(), text);
        assert_eq!(error.reason().label(), label);
        assert!(Reason::LABELS.contains(&label));
    }
    errors
}

#[test]
fn each_rule_has_its_text_and_its_label() {
    let plain = RawRecord::plain;
    for (field, value, text, label) in [
        (Field::FirstName, quoted(" "), "first_name: is blank", "blank"),
        (Field::Address, quoted(""), "address: is blank", "blank"),
        (
            Field::Phone,
            quoted(&"é".repeat(513)),
            "phone: is longer than 512 characters",
            "too_long",
        ),
        (
            Field::Gender,
            "\"a\\u0000\"".into(),
            "gender: has a NUL character",
            "nul_character",
        ),
        (
            Field::Id,
            quoted("42"),
            "id: is not a hyphenated uuid",
            "not_a_uuid",
        ),
        (
            Field::Id,
            quoted("00000000-0000-0000-0000-000000000000"),
            "id: is the nil uuid",
            "nil_uuid",
        ),
        (
            Field::Email,
            quoted("a@b@c"),
            "email: is not an e-mail address: one @ between two non-empty parts",
            "not_an_email",
        ),
        (
            Field::Dob,
            quoted("yesterday"),
            "dob: is not an RFC 3339 instant such as 2024-02-29T23:59:59.123Z",
            "not_an_instant",
        ),
        (
            Field::RegisteredDate,
            quoted("0000-01-01T00:00:00Z"),
            "registered_date: is outside the years 0001 to 9999 UTC",
            "out_of_range",
        ),
        (
            Field::RegisteredDate,
            quoted(""),
            "registered_date: is not an RFC 3339 instant such as 2024-02-29T23:59:59.123Z",
            "not_an_instant",
        ),
        (
            Field::RegisteredDate,
            "null".into(),
            "registered_date: must be a string, not null",
            "wrong_type",
        ),
        (
            Field::Picture,
            "null".into(),
            "picture: must be a string, not null",
            "wrong_type",
        ),
        (
            Field::Username,
            "true".into(),
            "username: must be a string, not a boolean",
            "wrong_type",
        ),
        (
            Field::LastName,
            "[\"x\"]".into(),
            "last_name: must be a string, not an array",
            "wrong_type",
        ),
        (
            Field::PostCode,
            "{\"a\":1}".into(),
            "post_code: must be a string, not an object",
            "wrong_type",
        ),
        (
            Field::Dob,
            "1e999".into(),
            "dob: must be a string, not a number",
            "wrong_type",
        ),
        (
            Field::FirstName,
            "\"\\ud800\"".into(),
            "first_name: has an escape that is not a character",
            "bad_escape",
        ),
    ] {
        for error in assert_refused(plain().json_with(field, &value), text, label) {
            let known = (field != Field::Id).then(|| plain().user().id());
            assert_eq!(error.id(), known, "{text}");
        }
    }
}

#[test]
fn missing_required_field_is_refused() {
    for field in Field::ALL.into_iter().filter(|field| field.is_required()) {
        let members = RawRecord::plain().without(field).members();
        assert_refused(object(&members), &format!("{field}: is missing"), "missing");
    }
}

#[test]
fn duplicate_field_is_refused() {
    for field in Field::ALL {
        let mut members = RawRecord::plain().members();
        members.push(members[field as usize].clone());
        let text = format!("{field}: is given more than once");
        for error in assert_refused(object(&members), &text, "duplicate_field") {
            assert_eq!(
                error.id().is_some(),
                field != Field::Id,
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
    let id = RawRecord::plain().user().id();
    let mut members = RawRecord::plain().json_with(Field::FirstName, "\"\"");
    assert_eq!(errors(&members).map(|error| error.id()), [Some(id); 2]);

    members = {
        let mut members = RawRecord::plain().with(Field::FirstName, "").members();
        members.rotate_left(1);
        members.insert(0, ("\"typo\"".into(), "1".into()));
        object(&members)
    };
    let [strict, lenient] = errors(&members);
    assert_eq!(strict.to_string(), "typo: is not a field of the record");
    assert_eq!(lenient.to_string(), "first_name: is blank");
    assert_eq!([strict.id(), lenient.id()], [Some(id); 2]);

    let cut_off = &members.as_bytes()[..members.len() - 1];
    assert_eq!(errors(cut_off).map(|error| error.id()), [Some(id); 2]);
}

#[test]
fn the_documented_one_of_several_errors_is_reported() {
    let plain = RawRecord::plain().with(Field::Id, "x").with(Field::Email, "x");
    assert_refused(
        object(&plain.members()),
        "id: is not a hyphenated uuid",
        "not_a_uuid",
    );
    assert_refused(
        plain.json_with(Field::Phone, "1"),
        "phone: must be a string, not a number",
        "wrong_type",
    );
    let twice = plain.json_with(Field::Phone, "1").replace('}', ",\"phone\":2}");
    assert_refused(&twice, "phone: is given more than once", "duplicate_field");
    let unknown = User::parse_strict(twice.replace('}', ",\"b\":2,\"a\":1}").as_bytes())
        .unwrap_err()
        .to_string();
    assert_eq!(unknown, "b: is not a field of the record");
}

#[test]
fn deeply_nested_and_huge_input_is_refused() {
    let nested = "{\"a\":".repeat(10_000) + &"}".repeat(10_000);
    assert_eq!(errors(&nested)[0].reason().label(), "malformed");
    let closed = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let json = RawRecord::plain().json_with(Field::FirstName, &closed);
    assert_refused(json, "first_name: must be a string, not an array", "wrong_type");
    let long = quoted(&"x".repeat(10 << 20));
    let json = RawRecord::plain().json_with(Field::FirstName, &long);
    assert_refused(json, "first_name: is longer than 512 characters", "too_long");
}

#[test]
fn name_of_an_unknown_field_is_truncated_and_sanitized() {
    let name = format!(
        "{}\u{202e}\u{1b}[31m\n{}",
        "n".repeat(60),
        "secret".repeat(100_000)
    );
    let error = User::parse_strict(format!("{{{}:1}}", quoted(&name)).as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}??[3…: is not a field of the record", "n".repeat(60))
    );
}

#[test]
fn labels_are_distinct_and_valid_for_metrics() {
    let labels = BTreeSet::from(Reason::LABELS);
    assert_eq!(labels.len(), Reason::LABELS.len());
    assert!(
        labels
            .iter()
            .all(|label| label.chars().all(|c| c.is_ascii_lowercase() || "_8".contains(c)))
    );
}
