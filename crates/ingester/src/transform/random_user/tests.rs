//! Tests of the parser for replies of the random-user API.

use model::Contract;
use serde_json::{Value, json};

use super::*;

const EXPECTED: ExpectedPage<'_> = ExpectedPage {
    version: "1.4",
    seed: "abc",
    page: 3,
    results: 2,
};

fn user(first: u8) -> Value {
    json!({
        "gender": "male", "name": {"first": "A", "last": "B"},
        "location": {"street": {"number": 1, "name": "S"}, "city": "C", "state": "D", "country": "E", "postcode": 1},
        "email": "a@b", "login": {"uuid": format!("{first:02x}000000-0000-4000-8000-000000000000"), "username": "u"},
        "dob": {"date": "1990-01-01T00:00:00.000Z"}, "registered": {"date": "2010-01-01T00:00:00.000Z"},
        "phone": "1", "picture": {"medium": "p"}
    })
}

fn info() -> Value {
    json!({"seed": "abc", "results": 2, "page": 3, "version": "1.4"})
}

fn parse_page(body: &[u8]) -> Result<Page, ReplyError> {
    page(body, &EXPECTED, &Mapping::user().unwrap())
}

fn read(reply: &Value) -> Result<Page, ReplyError> {
    parse_page(reply.to_string().as_bytes())
}

fn with_info(key: &str, value: Value) -> Result<Page, ReplyError> {
    let mut info = info();
    info[key] = value;
    read(&json!({"results": [user(1), user(2)], "info": info}))
}

#[test]
fn valid_reply_is_a_page_in_its_order() {
    let page = read(&json!({"results": [user(2), user(1)], "info": info()})).unwrap();
    assert_eq!((page.users(), page.mapping_errors().len()), (2, 0));
    let ids: Vec<_> = page.ids().map(|id| id.to_string()[..2].to_owned()).collect();
    assert_eq!(ids, ["02", "01"]);
    for (index, id) in page.ids().enumerate() {
        assert_eq!(
            Contract::user()
                .parse_strict(page.records(&[index]).record(0))
                .unwrap()
                .key(),
            *id
        );
    }
}

#[test]
fn numbers_in_info_may_be_text() {
    with_info("page", json!("3")).unwrap();
    with_info("results", json!("2")).unwrap();
}

#[test]
fn invalid_utf8_in_unread_fields_is_accepted() {
    let reply = json!({"results": [user(1), user(2)], "info": info(), "x": "~"}).to_string();
    let bytes: Vec<u8> = reply.bytes().map(|b| if b == b'~' { 0xff } else { b }).collect();
    assert_eq!(parse_page(&bytes).unwrap().users(), 2);
}

#[test]
fn unmappable_user_does_not_affect_others() {
    for user_value in [
        json!(null),
        json!(7),
        json!("x"),
        json!([]),
        json!({}),
        json!({"name": "x", "login": 3}),
    ] {
        let page = read(&json!({"results": [user_value, user(1)], "info": info()})).unwrap();
        assert_eq!(
            (page.users(), page.mapping_errors().len(), page.ids().len()),
            (2, 1, 1),
            "{user_value}"
        );
    }
}

#[test]
fn another_version_is_rejected_by_name() {
    let version_of = |reply| match read(&reply) {
        Err(ReplyError::Version { received, .. }) => received,
        other => panic!("{other:?}"),
    };
    for version in ["1.3", "1.2", "1.1"] {
        let info = json!({"seed": "abc", "results": 2, "page": 3, "version": version});
        assert_eq!(
            version_of(json!({"results": [user(1), user(2)], "info": info})),
            version
        );
    }
    let oldest = json!({"results": [{"user": {"gender": "male"}}], "seed": "abc", "version": "0.8"});
    assert_eq!(version_of(oldest), "0.8");
}

#[test]
fn reply_without_a_version_is_rejected() {
    assert_eq!(
        read(&json!({"results": [user(1), user(2)]})).unwrap_err(),
        ReplyError::Unversioned
    );
    assert_eq!(
        with_info("version", json!(1.4)).unwrap_err(),
        ReplyError::Unversioned
    );
    assert_eq!(read(&json!({})).unwrap_err(), ReplyError::Unversioned);
}

#[test]
fn reported_error_is_an_error() {
    let error = "Uh oh, something has gone wrong. Please tweet us @randomapi about the issue. Thank you.";
    assert_eq!(
        read(&json!({"error": error})).unwrap_err(),
        ReplyError::Reported(error.into())
    );
    assert_eq!(
        read(&json!({"error": null})).unwrap_err(),
        ReplyError::Reported("(no text)".into())
    );
}

#[test]
fn wrong_number_of_users_is_rejected() {
    let empty = read(&json!({"results": [], "info": info()})).unwrap_err();
    assert_eq!(empty, ReplyError::Empty);
    assert_eq!(read(&json!({"info": info()})).unwrap_err(), ReplyError::Empty);
    let one = read(&json!({"results": [user(1)], "info": info()})).unwrap_err();
    assert_eq!(
        one.to_string(),
        "requested 2 users, the reply declares 2 and contains 1"
    );
    assert!(matches!(
        with_info("results", json!(1)),
        Err(ReplyError::Count { actual: 2, .. })
    ));
}

#[test]
fn silently_corrected_page_is_rejected() {
    let error = with_info("page", json!(1)).unwrap_err();
    assert_eq!(error.to_string(), "requested page 3, the reply declares page 1");
}

#[test]
fn page_of_another_seed_is_rejected() {
    let error = with_info("seed", json!("other\nseed")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "requested seed abc, the reply declares other seed"
    );
    for (seed, declared) in [
        (json!("ABC"), "ABC"),
        (json!(""), ""),
        (json!(7), "7"),
        (json!(null), "(no text)"),
    ] {
        let error = with_info("seed", seed).unwrap_err();
        assert!(
            matches!(&error, ReplyError::Seed { declared: found, .. } if found == declared),
            "{error}"
        );
    }
    let info = json!({"results": 2, "page": 3, "version": "1.4"});
    let error = read(&json!({"results": [user(1), user(2)], "info": info})).unwrap_err();
    assert_eq!(error.to_string(), "requested seed abc, the reply declares none");
}

#[test]
fn seed_of_digits_may_be_a_number() {
    let expected = ExpectedPage {
        seed: "12",
        ..EXPECTED
    };
    let declared = |seed: Value| {
        let info = json!({"seed": seed, "results": 2, "page": 3, "version": "1.4"});
        let reply = json!({"results": [user(1), user(2)], "info": info}).to_string();
        page(reply.as_bytes(), &expected, &Mapping::user().unwrap())
    };
    declared(json!("12")).unwrap();
    declared(json!(12)).unwrap();
    declared(json!("012")).unwrap_err();
}

#[test]
fn truncated_reply_is_never_a_page() {
    let whole = json!({"results": [user(1), user(2)], "info": info()}).to_string();
    for end in 0..whole.len() {
        let cut = parse_page(&whole.as_bytes()[..end]);
        assert!(
            matches!(cut, Err(ReplyError::Malformed { .. })),
            "cut at byte {end}"
        );
    }
}

#[test]
fn malformed_json_reports_its_position_and_no_value() {
    for body in [
        "",
        "<html>secret</html>",
        "[]",
        "\"secret\"",
        "{\"results\":\"secret\"}",
        "{\"results\":[\"secret]}",
    ] {
        let error = parse_page(body.as_bytes()).unwrap_err();
        assert!(matches!(error, ReplyError::Malformed { .. }), "{body}");
        assert!(!error.to_string().contains("secret"));
    }
    let deep = format!("{{\"results\":{}", "[".repeat(10_000));
    assert!(matches!(
        parse_page(deep.as_bytes()),
        Err(ReplyError::Malformed { .. })
    ));
    assert!(matches!(
        parse_page(b"{\"results\":[\xff]}"),
        Err(ReplyError::Malformed { .. })
    ));
}

/// Returns the body of a reply with this text in place of the first user's `A`.
fn with_first_name(name: &[u8]) -> Vec<u8> {
    let mut first = user(1);
    first["name"]["first"] = json!("~");
    let reply = json!({"results": [first, user(2)], "info": info()}).to_string();
    let (before, after) = reply.split_once("\"~\"").unwrap();
    [before.as_bytes(), name, after.as_bytes()].concat()
}

#[test]
fn user_that_can_t_be_read_does_not_affect_others() {
    let deep = [b"[".repeat(200), b"]".repeat(200)].concat();
    for (name, error) in [
        (&br#""A","first":"B""#[..], "first_name: duplicate_field"),
        (br#""\ud800""#, "user: malformed"),
        (br#""A\udc00B""#, "user: malformed"),
        (b"\"Zo\xeb\"", "user: not_utf8"),
        (b"\"\xe2\x82\"", "user: not_utf8"),
        (b"1e999", "user: malformed"),
        (b"-1e999", "user: malformed"),
        (&deep, "first_name: wrong_type"),
    ] {
        let page = parse_page(&with_first_name(name)).unwrap();
        let name = String::from_utf8_lossy(name);
        let errors: Vec<_> = page.mapping_errors().iter().map(ToString::to_string).collect();
        assert_eq!((page.users(), errors), (2, vec![error.to_owned()]), "{name}");
        let ids: Vec<_> = page.ids().map(|id| id.to_string()[..2].to_owned()).collect();
        assert_eq!(ids, ["02"], "{name}");
    }
}

#[test]
fn byte_order_mark_is_accepted() {
    let body = [BYTE_ORDER_MARK, &with_first_name(b"\"A\"")].concat();
    assert_eq!(parse_page(&body).unwrap().ids().len(), 2);
}

#[test]
fn suspicious_users_are_valid_and_counted() {
    for (name, expected) in [
        ("\"Zo\u{eb}\"", vec![]),
        ("\"\u{fffd}\"", vec![Suspicion::ReplacementCharacter]),
        ("\"Zo\u{c3}\u{ab}\"", vec![Suspicion::WrongCharacterSet]),
        // Not sent, so only invalid.
        ("\"Zo\u{c3}\u{ab}\",\"first\":\"x\"", vec![]),
    ] {
        let page = parse_page(&with_first_name(name.as_bytes())).unwrap();
        assert_eq!((page.suspicions(), page.users()), (&expected[..], 2), "{name}");
    }
}
