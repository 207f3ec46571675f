//! Which texts the strict and the lenient parser accept.

use std::borrow::Cow;

use model::{Reason, Value};

use crate::any_record::{FIELDS, RawRecord, contract, object, quoted, slot, text};

#[test]
fn strings_without_escapes_are_borrowed_from_the_input() {
    let json = object(&RawRecord::plain().with("last_name", "a\"b").members()).into_bytes();
    let user = contract().parse_strict(&json).unwrap();
    let borrowed = |text: &str| json.as_ptr_range().contains(&text.as_ptr());
    assert!(
        borrowed(text(&user, "first_name"))
            && borrowed(text(&user, "email"))
            && borrowed(text(&user, "picture"))
    );
    assert!(!borrowed(text(&user, "last_name")));
}

#[test]
fn order_white_space_and_escapes_do_not_matter() {
    let mut members = RawRecord::plain().members();
    members.reverse();
    members[0].0 = "\"\\u0070ic\\u0074ure\"".into();
    members[10].1 = "\"\\u004dargaret\"".into();
    members[11].1 = members[11].1.to_uppercase();
    let json = format!("\n{} \r\n\t", object(&members).replace("\",\"", "\" ,\n \""));

    let user = contract().parse_strict(json.as_bytes()).unwrap();
    assert_eq!(user, RawRecord::plain().record());
    assert!(!user.is_canonical(json.as_bytes()));
    assert_eq!(
        user.canonical_json(json.as_bytes()),
        Cow::<[u8]>::Owned(user.to_json())
    );
}

#[test]
fn canonical_input_is_borrowed() {
    let record = RawRecord::plain();
    let canonical = object(&record.members());
    let user = record.record();
    assert!(matches!(
        user.canonical_json(canonical.as_bytes()),
        Cow::Borrowed(_)
    ));
    for other in [
        format!("{canonical} "),
        format!(" {canonical}"),
        canonical[..canonical.len() - 1].to_owned(),
    ] {
        assert!(
            matches!(user.canonical_json(other.as_bytes()), Cow::Owned(_)),
            "{other}"
        );
    }
}

#[test]
fn instants_are_formatted_canonically() {
    let record = RawRecord::plain().with("dob", "1961-08-04T21:05:09.1239+01:00");
    let json = object(&record.members());
    let user = contract().parse_strict(json.as_bytes()).unwrap();
    let written = String::from_utf8(user.to_json()).unwrap();
    assert!(
        written.contains("\"dob\":\"1961-08-04T20:05:09.123Z\""),
        "{written}"
    );
}

#[test]
fn only_registered_date_is_optional_and_then_omitted() {
    let optional: Vec<_> = FIELDS
        .into_iter()
        .filter(|field| !contract().fields()[slot(field)].is_required())
        .collect();
    assert_eq!(optional, ["registered_date"]);

    let record = RawRecord::plain().without("registered_date");
    let json = object(&record.members());
    for user in [
        contract().parse_strict(json.as_bytes()),
        contract().parse_lenient(json.as_bytes()),
    ] {
        let user = user.unwrap();
        assert_eq!(user.value(slot("registered_date")), &Value::Absent);
        assert_eq!(String::from_utf8(user.to_json()).unwrap(), json);
        assert!(user.is_canonical(json.as_bytes()));
        assert_eq!(user, record.record());
        assert_ne!(user, RawRecord::plain().record());
    }
}

#[test]
fn only_the_lenient_parser_accepts_an_integer_post_code() {
    for digits in ["0", "4242", "-7", "123456789012345678901234567890"] {
        let json = RawRecord::plain().json_with("post_code", digits);
        let lenient = contract().parse_lenient(json.as_bytes()).unwrap();
        assert_eq!(text(&lenient, "post_code"), digits);
        let error = contract().parse_strict(json.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "post_code: must be a string, not a number");
    }
    for number in ["1.0", "1e3", "1E3", "1e999", "-0.5"] {
        let json = RawRecord::plain().json_with("post_code", number);
        let error = contract().parse_lenient(json.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "post_code: must be a string, not a number");
    }
    let json = RawRecord::plain().json_with("post_code", &"9".repeat(513));
    assert_eq!(
        contract().parse_lenient(json.as_bytes()).unwrap_err().reason(),
        &Reason::TooLong { limit: 512 }
    );
}

#[test]
fn integer_in_another_field_is_refused() {
    for field in FIELDS.into_iter().filter(|field| *field != "post_code") {
        let json = RawRecord::plain().json_with(field, "42");
        let error = contract().parse_lenient(json.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{field}: must be a string, not a number")
        );
    }
}

#[test]
fn lenient_parser_ignores_any_unknown_field() {
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for value in ["null", "1e999", "\"\\ud800\"", "{\"id\":\"x\"}", &nested] {
        let mut members = RawRecord::plain().members();
        members.insert(0, ("\"extra\"".into(), value.into()));
        members.push(("\"extra\"".into(), value.into()));
        let json = object(&members);
        assert_eq!(
            contract()
                .parse_lenient(json.as_bytes())
                .map(|record| record.to_json()),
            Ok(RawRecord::plain().record().to_json())
        );
        assert!(
            contract()
                .parse_lenient(json.as_bytes())
                .unwrap()
                .has_unknown_fields()
        );
        assert_eq!(
            contract().parse_strict(json.as_bytes()).unwrap_err().to_string(),
            "extra: is not a field of the record"
        );
    }
}

#[test]
fn record_from_texts_checks_the_same_rules() {
    let blank = RawRecord::plain().with("gender", "\u{3000}");
    let error = blank.try_record().unwrap_err();
    assert_eq!(error.to_string(), "gender: is blank");
    assert_eq!(error.key(), Some(&RawRecord::plain().record().key()));
    let json = RawRecord::plain().json_with("gender", &quoted("\u{3000}"));
    assert_eq!(contract().parse_strict(json.as_bytes()), Err(error));
}
