//! Compares generated records with real ones by field and nationality, and checks the real API's quirks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use testkit::randomuser::{Options, RandomUserApi};

use super::{
    client::{page, results, start_with, text},
    samples::real_samples,
};

/// The fields of a record with their types, in order: `login.uuid: text`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct JsonPaths(Vec<String>);

impl JsonPaths {
    fn of(kind: &str) -> Self {
        Self(vec![format!(": {kind}")])
    }
}

impl<'de> Deserialize<'de> for JsonPaths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonPathsVisitor)
    }
}

struct JsonPathsVisitor;

impl<'de> Visitor<'de> for JsonPathsVisitor {
    type Value = JsonPaths;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON")
    }

    fn visit_str<E>(self, _: &str) -> Result<JsonPaths, E> {
        Ok(JsonPaths::of("text"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<JsonPaths, E> {
        Ok(JsonPaths::of("integer"))
    }

    fn visit_unit<E>(self) -> Result<JsonPaths, E> {
        Ok(JsonPaths::of("null"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonPaths, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, JsonPaths(inner))) = map.next_entry::<String, JsonPaths>()? {
            let join = |field: String| {
                if field.starts_with(':') {
                    format!("{name}{field}")
                } else {
                    format!("{name}.{field}")
                }
            };
            fields.extend(inner.into_iter().map(join));
        }
        Ok(JsonPaths(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<JsonPaths, A::Error> {
        while list.next_element::<JsonPaths>()?.is_some() {}
        Ok(JsonPaths::of("list"))
    }
}

#[derive(Deserialize)]
struct Shapes {
    results: Vec<JsonPaths>,
}

/// The shapes of each nationality's records in a reply.
fn shapes_by_nationality(reply: &str) -> BTreeMap<String, BTreeSet<JsonPaths>> {
    let shapes: Shapes = serde_json::from_str(reply).expect("a reply");
    let values: Value = serde_json::from_str(reply).expect("a reply");
    let mut found: BTreeMap<String, BTreeSet<JsonPaths>> = BTreeMap::new();
    for (shape, user) in shapes.results.into_iter().zip(results(&values)) {
        found.entry(nationality(user)).or_default().insert(shape);
    }
    found
}

fn nationality(user: &Value) -> String {
    user["nat"].as_str().expect("a nationality").to_owned()
}

/// Digits as `9`, capital letters as `A`.
fn mask(value: &Value) -> String {
    let symbol = |c: char| {
        if c.is_ascii_digit() {
            '9'
        } else if c.is_ascii_uppercase() {
            'A'
        } else {
            c
        }
    };
    value.to_string().chars().map(symbol).collect()
}

/// The formats of phones, postcodes, ids and dates of each nationality.
fn masks_by_nationality(reply: &str) -> BTreeMap<String, BTreeSet<String>> {
    let reply: Value = serde_json::from_str(reply).expect("a reply");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for user in results(&reply) {
        let masks = found.entry(nationality(user)).or_default();
        for field in [
            "/phone",
            "/cell",
            "/location/postcode",
            "/id/name",
            "/id/value",
            "/dob/date",
            "/name/title",
        ] {
            let value = user.pointer(field).expect("a field that every record has");
            masks.insert(format!(
                "{field} {}",
                if field.ends_with("name") {
                    value.to_string()
                } else {
                    mask(value)
                }
            ));
        }
    }
    found
}

async fn unlimited() -> RandomUserApi {
    start_with(Options::unlimited()).await
}

async fn compare(file: &str, path: &str) {
    let Some(folder) = real_samples() else { return };
    let real = fs::read_to_string(folder.join(file)).expect("a readable sample");
    let real = if real.contains("\"results\"") {
        real
    } else {
        format!(r#"{{"results": [{real}]}}"#)
    };
    let made = text(&unlimited().await, &format!("{path}&results=5000&seed=x")).await;
    let (shapes, masks) = (shapes_by_nationality(&made), masks_by_nationality(&made));
    for (code, real) in shapes_by_nationality(&real) {
        assert_eq!(shapes[&code], real, "{file}: {code}");
    }
    for (code, real) in masks_by_nationality(&real) {
        let unknown: Vec<_> = real.difference(&masks[&code]).collect();
        assert!(unknown.is_empty(), "{file}: {code} never has {unknown:?}");
    }
}

#[tokio::test]
async fn records_of_1_4_match_real_ones() {
    compare("v1.4_results-111_all-nationalities.json", "/api/1.4/?").await;
}

#[tokio::test]
async fn records_of_1_3_without_registered_match_real_ones() {
    compare("v1.3_seed-abc_page1.json", "/api/1.3/?exc=registered").await;
    compare("v1.3_seed-abc_page2.json", "/api/1.3/?exc=registered").await;
}

#[tokio::test]
async fn records_of_1_3_and_1_2_match_real_ones() {
    compare("v1.3_record_NL_integer-postcode.json", "/api/1.3/?").await;
    compare("v1.2_record_IR_non-ascii-email.json", "/api/1.2/?").await;
}

async fn people(version: &str, code: &str) -> Vec<Value> {
    let reply = page(
        &unlimited().await,
        &format!("/api/{version}/?seed=x&results=500&nat={code}"),
    )
    .await;
    results(&reply).to_vec()
}

fn every(people: &[Value], field: &str, holds: impl Fn(&Value) -> bool) -> bool {
    people.iter().all(|user| user.pointer(field).is_some_and(&holds))
}

fn some(people: &[Value], field: &str, holds: impl Fn(&str) -> bool) -> bool {
    people
        .iter()
        .any(|user| user.pointer(field).and_then(Value::as_str).is_some_and(&holds))
}

#[tokio::test]
async fn postcodes_are_text_or_integer_by_nationality() {
    const CODES: [&str; 21] = [
        "AU", "BR", "CA", "CH", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IN", "IR", "MX", "NL", "NO", "NZ",
        "RS", "TR", "UA", "US",
    ];
    for code in CODES {
        let text = ["GB", "CA", "NO", "NL"].contains(&code);
        let people = people("1.4", code).await;
        assert!(every(&people, "/nat", |nat| nat == code));
        assert!(
            every(&people, "/location/postcode", |value| value.is_string() == text
                && value.is_u64() != text),
            "{code}"
        );
    }
    assert!(every(
        &people("1.3", "NL").await,
        "/location/postcode",
        Value::is_u64
    ));
    assert!(some(&people("1.4", "NO").await, "/location/postcode", |code| {
        code.starts_with('0')
    }));
}

#[tokio::test]
async fn some_ids_are_null_and_finnish_ones_contain_nan() {
    for code in ["IR", "NZ", "TR", "UA"] {
        assert!(
            every(&people("1.4", code).await, "/id/value", Value::is_null),
            "{code}"
        );
    }
    for code in ["BR", "CA", "DE"] {
        assert!(
            every(&people("1.3", code).await, "/id/value", Value::is_null),
            "{code}"
        );
        assert!(
            every(&people("1.4", code).await, "/id/value", Value::is_string),
            "{code}"
        );
    }
    let odd = |id: &Value| {
        id.as_str()
            .is_some_and(|id| id.starts_with("NaN") && id.ends_with("undefined"))
    };
    assert!(every(&people("1.4", "FI").await, "/id/value", odd));
}

#[tokio::test]
async fn phones_of_ua_and_ca_contain_letters() {
    for code in ["UA", "CA"] {
        let lettered = |phone: &Value| {
            phone
                .as_str()
                .is_some_and(|text| text.contains(|c: char| c.is_ascii_uppercase()))
        };
        assert!(every(&people("1.4", code).await, "/phone", lettered), "{code}");
    }
}

#[tokio::test]
async fn some_streets_of_br_and_rs_end_with_a_space() {
    for code in ["BR", "RS"] {
        let people = people("1.4", code).await;
        assert!(
            some(&people, "/location/street/name", |name| name.ends_with(' ')),
            "{code}"
        );
        assert!(
            some(&people, "/location/street/name", |name| !name.ends_with(' ')),
            "{code}"
        );
    }
}

#[tokio::test]
async fn names_are_in_native_scripts_and_births_before_1970_occur() {
    for code in ["IR", "RS", "UA", "TR", "DE", "FR", "NO"] {
        let people = people("1.4", code).await;
        assert!(some(&people, "/name/first", |name| !name.is_ascii()), "{code}");
        assert!(some(&people, "/dob/date", |date| date < "1970"), "{code}");
        assert!(
            every(&people, "/email", |email| email.as_str().is_some_and(plausible)),
            "{code}"
        );
    }
}

/// `first.last@example.com`, both parts in lowercase ASCII.
fn plausible(email: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    email
        .strip_suffix("@example.com")
        .and_then(|name| name.split_once('.'))
        .is_some_and(|(first, last)| part(first) && part(last))
}

#[tokio::test]
async fn version_1_2_has_one_line_streets_and_non_ascii_emails() {
    let people = people("1.2", "IR").await;
    assert!(every(&people, "/location/street", Value::is_string));
    assert!(every(&people, "/email", |email| email
        .as_str()
        .is_some_and(|text| !text.is_ascii() && !text.contains(' '))));
    assert!(every(&people, "/name/title", |title| title
        .as_str()
        .is_some_and(|text| text == text.to_lowercase())));
    assert!(
        people
            .iter()
            .all(|user| user["location"].get("country").is_none())
    );
}
