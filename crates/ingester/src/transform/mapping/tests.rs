//! Tests of the mapping from a user of the API to a record.

use proptest::prelude::*;
use serde::de::DeserializeSeed as _;
use serde_json::{Value, json};

use super::*;

fn user() -> Value {
    json!({
        "gender": "female",
        "name": {"title": "Ms", "first": "Zoë", "last": "Lindqvist"},
        "location": {
            "street": {"number": 12, "name": " Kaivokatu  "}, "city": "Turku ", "state": "Pirkanmaa",
            "country": "Finland", "postcode": 20100,
            "coordinates": {"latitude": "1.5", "longitude": "-3.25"}
        },
        "email": "zoe.lindqvist@example.com",
        "login": {"uuid": "0195D0B1-7A4C-7F3E-9B1A-2C3D4E5F6071", "username": "quietheron12", "password": "x"},
        "dob": {"date": "1961-08-04T21:05:09.123Z", "age": 64},
        "registered": {"date": "2019-02-28T00:00:00Z", "age": 6},
        "phone": "02-345-678",
        "id": {"name": "HETU", "value": "NaNNA213undefined"},
        "picture": {"large": "l", "medium": "https://example.org/med/1.jpg", "thumbnail": "t"},
        "nat": "FI"
    })
}

/// Returns the user with `value` at `pointer`.
fn with(pointer: &str, value: Value) -> Value {
    let mut user = user();
    *user.pointer_mut(pointer).unwrap() = value;
    user
}

fn without(parent: &str, key: &str) -> Value {
    let mut user = user();
    user.pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove(key)
        .unwrap();
    user
}

fn map(user: &Value) -> Result<Value, MappingError> {
    map_by(&Mapping::user().unwrap(), user)
}

fn map_by(mapping: &Mapping, user: &Value) -> Result<Value, MappingError> {
    let text = user.to_string();
    let user = read(mapping, &text);
    let record = mapping.map(&user)?;
    Ok(serde_json::from_slice(&record.to_json()).unwrap())
}

fn read<'a>(mapping: &Mapping, user: &'a str) -> ApiUser<'a> {
    let mut json = serde_json::Deserializer::from_str(user);
    mapping.paths().deserialize(&mut json).unwrap()
}

fn error_of(user: &Value) -> String {
    map(user).unwrap_err().to_string()
}

#[test]
fn user_maps_to_the_record_of_the_contract() {
    let expected = json!({
        "id": "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071", "first_name": "Zoë", "last_name": "Lindqvist",
        "gender": "female", "address": "12 Kaivokatu, Turku, Pirkanmaa, Finland", "post_code": "20100",
        "email": "zoe.lindqvist@example.com", "username": "quietheron12", "dob": "1961-08-04T21:05:09.123Z",
        "registered_date": "2019-02-28T00:00:00.000Z", "phone": "02-345-678",
        "picture": "https://example.org/med/1.jpg"
    });
    assert_eq!(map(&user()).unwrap(), expected);
}

#[test]
fn postcode_is_kept_as_written() {
    for (given, expected) in [
        (json!("0378"), "0378"),
        (json!("K1A 0B1"), "K1A 0B1"),
        (json!(-5), "-5"),
    ] {
        assert_eq!(
            map(&with("/location/postcode", given)).unwrap()["post_code"],
            expected
        );
    }
    for wrong in [json!(1.5), json!(null), json!(true), json!(["0378"])] {
        assert_eq!(
            error_of(&with("/location/postcode", wrong)),
            "post_code: wrong_type"
        );
    }
}

#[test]
fn street_number_may_be_text() {
    let user = map(&with("/location/street/number", json!("12b "))).unwrap();
    assert_eq!(user["address"], "12b Kaivokatu, Turku, Pirkanmaa, Finland");
}

#[test]
fn street_of_an_old_version_is_rejected() {
    let old = with("/location/street", json!("4513 Main St"));
    assert_eq!(error_of(&old), "address: street_as_before_1_3");
}

#[test]
fn blank_or_missing_address_parts_are_rejected() {
    assert_eq!(error_of(&with("/location/state", json!("  "))), "address: blank");
    assert_eq!(
        error_of(&with("/location/city", json!(null))),
        "address: wrong_type"
    );
    assert_eq!(error_of(&without("/location", "country")), "address: missing");
    assert_eq!(
        error_of(&without("/location/street", "number")),
        "address: missing"
    );
}

#[test]
fn missing_or_mistyped_values_name_their_field() {
    for (parent, key, field) in [
        ("/login", "uuid", "id"),
        ("/name", "first", "first_name"),
        ("/name", "last", "last_name"),
        ("", "gender", "gender"),
        ("/location", "postcode", "post_code"),
        ("", "email", "email"),
        ("/login", "username", "username"),
        ("/dob", "date", "dob"),
        ("/registered", "date", "registered_date"),
        ("", "phone", "phone"),
        ("/picture", "medium", "picture"),
        ("", "login", "id"),
        ("", "name", "first_name"),
        ("", "location", "address"),
        ("", "dob", "dob"),
        ("", "picture", "picture"),
    ] {
        assert_eq!(error_of(&without(parent, key)), format!("{field}: missing"));
        let pointer = format!("{parent}/{key}");
        assert_eq!(
            error_of(&with(&pointer, json!([1]))),
            format!("{field}: wrong_type")
        );
        assert_eq!(
            error_of(&with(&pointer, json!(null))),
            format!("{field}: wrong_type")
        );
    }
}

#[test]
fn registered_date_is_optional() {
    let mut expected = map(&user()).unwrap();
    expected
        .as_object_mut()
        .unwrap()
        .remove("registered_date")
        .unwrap();
    assert_eq!(map(&without("", "registered")).unwrap(), expected);
}

#[test]
fn present_registered_date_must_be_complete() {
    for broken in [
        json!(null),
        json!("2019-02-28T00:00:00Z"),
        json!([1]),
        json!({"date": null}),
    ] {
        assert_eq!(
            error_of(&with("/registered", broken)),
            "registered_date: wrong_type"
        );
    }
    assert_eq!(
        error_of(&with("/registered", json!({"age": 6}))),
        "registered_date: missing"
    );
    assert_eq!(
        error_of(&with("/registered/date", json!(""))),
        "registered_date: not_an_instant"
    );
}

#[test]
fn broken_rules_name_field_and_rule() {
    assert_eq!(
        error_of(&with(
            "/login/uuid",
            json!("00000000-0000-0000-0000-000000000000")
        )),
        "id: nil_uuid"
    );
    assert_eq!(error_of(&with("/name/first", json!(" "))), "first_name: blank");
    assert_eq!(error_of(&with("/email", json!("nobody"))), "email: not_an_email");
    assert_eq!(
        error_of(&with("/dob/date", json!("1992-03-18 17:36:00"))),
        "dob: not_an_instant"
    );
    assert_eq!(
        error_of(&with("/phone", json!("0\u{0}1"))),
        "phone: nul_character"
    );
    assert_eq!(
        error_of(&with("/name/last", json!("x".repeat(513)))),
        "last_name: too_long"
    );
}

#[test]
fn unescaped_strings_are_borrowed() {
    let (mapping, text) = (Mapping::user().unwrap(), user().to_string());
    let user = read(&mapping, &text);
    let record = mapping.map(&user).unwrap();
    let slot = Contract::user().slot("first_name").unwrap();
    let model::Value::Text(name) = record.value(slot) else {
        panic!("not a text")
    };
    assert!(text.as_bytes().as_ptr_range().contains(&name.as_ptr()));
}

const USER_PROTO: &str = include_str!("../../../../../proto-schema/affluent/users/v1/user.proto");

/// The contract of users with a further field.
fn contract_with(field: &str) -> Arc<Contract> {
    let end = USER_PROTO.rfind('}').unwrap();
    let text = format!("{}  {field}\n}}\n", &USER_PROTO[..end]);
    Arc::new(Contract::from_source(&text).unwrap())
}

#[test]
fn table_has_exactly_the_fields_of_the_contract() {
    let contract = Contract::user();
    let fields: Vec<_> = contract.fields().iter().map(Field::name).collect();
    let sources: Vec<_> = SOURCES.iter().map(|(name, _)| *name).collect();
    assert_eq!(sources, fields);
}

#[test]
fn added_optional_field_needs_one_line() {
    let contract = contract_with("optional string nickname = 13;");
    let without = Mapping::new(contract.clone(), SOURCES).unwrap();
    assert_eq!(map_by(&without, &user()).unwrap(), map(&user()).unwrap());

    let sources = [SOURCES, &[("nickname", Text("login.nickname"))]].concat();
    let mapping = Mapping::new(contract, &sources).unwrap();
    let mut given = user();
    given["login"]["nickname"] = json!("Heron");
    let text = given.to_string();
    let user = read(&mapping, &text);
    let json = mapping.map(&user).unwrap().to_json();
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"id":"0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071","first_name":"Zoë","last_name":"Lindqvist","gender":"female","address":"12 Kaivokatu, Turku, Pirkanmaa, Finland","post_code":"20100","email":"zoe.lindqvist@example.com","username":"quietheron12","dob":"1961-08-04T21:05:09.123Z","registered_date":"2019-02-28T00:00:00.000Z","phone":"02-345-678","picture":"https://example.org/med/1.jpg","nickname":"Heron"}"#
    );
}

#[test]
fn required_field_without_a_source_fails_the_start() {
    let error = Mapping::new(contract_with("string nickname = 13;"), SOURCES).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the required field `nickname` of affluent.users.v1.User has no source; add it to the table in \
         transform/mapping.rs"
    );
}

#[test]
fn key_that_is_no_uuid_fails_the_start() {
    let text = USER_PROTO.replacen(
        "string id = 1 [(affluent.options.v1.rule).format = UUID];",
        "int64 id = 1;",
        1,
    );
    let contract = Arc::new(Contract::from_source(&text).unwrap());
    let error = Mapping::new(contract, SOURCES).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the key of affluent.users.v1.User must be a uuid"
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{1,5}", inner, 0..3).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_maps_to_a_record_or_an_error(
        value in any_json(),
        pointer in prop::sample::select(vec![
            "/gender", "/name", "/name/first", "/location", "/location/street", "/location/street/number",
            "/location/street/name", "/location/city", "/location/postcode", "/email", "/login", "/login/uuid",
            "/dob", "/dob/date", "/registered", "/registered/date", "/phone", "/picture", "/picture/medium", "/id", "/nat",
        ]),
    ) {
        match map(&with(pointer, value)) {
            Ok(record) => prop_assert!(record.as_object().unwrap().values().all(Value::is_string)),
            Err(error) => prop_assert!(!error.rule.is_empty()),
        }
    }
}
