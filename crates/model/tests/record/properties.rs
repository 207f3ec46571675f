//! Properties of the record: it round-trips through JSON, no input makes a parser panic, and no error quotes a value.

use std::borrow::Cow;

use proptest::{collection::vec, prelude::*, sample::Index};

use crate::any_record::{FIELDS, RawRecord, any_record, contract, object, quoted};

/// Parses `json` with all parsers and compares the results with each other and with the round trip.
fn check_parsers(json: &[u8]) {
    let strict = contract().parse_strict(json);
    let lenient = contract().parse_lenient(json);
    if let Ok(user) = &strict {
        assert_eq!(
            lenient.as_ref(),
            Ok(user),
            "the lenient parser accepts what the strict one accepts"
        );
    }
    if let Ok(user) = &lenient {
        let canonical = user.to_json();
        let again = contract().parse_strict(&canonical).unwrap();
        assert_eq!(again.to_json(), canonical);
        assert_eq!(&again == user, !user.has_unknown_fields());
        assert_eq!(user.is_canonical(json), canonical == json);
    }
    // The one-scan parser accepts exactly the canonical encoding without escapes.
    let canonical = strict.as_ref().ok();
    let canonical = canonical.filter(|user| user.is_canonical(json) && !json.contains(&b'\\'));
    assert_eq!(contract().parse_canonical(json).as_ref(), canonical);
    if let Some(length) = std::str::from_utf8(json)
        .ok()
        .and_then(|text| contract().canonical_length(text))
    {
        let record = &json[..length];
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(record).is_ok());
        assert!(canonical.is_none_or(|_| length == json.len()));
    } else {
        assert!(canonical.is_none());
    }
    for error in [strict.err(), lenient.err()].into_iter().flatten() {
        assert!(
            error.errors().iter().all(|error| error.to_string().len() < 512),
            "{error}"
        );
    }
}

#[derive(Clone, Debug)]
enum Damage {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Truncate(Index),
    Repeat(Index, Index),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let token = prop_oneof![
        vec(any::<u8>(), 1..8),
        prop::sample::select(vec![
            "\"",
            "\\",
            "\\u",
            "\\ud800",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "null",
            "1e999",
            "-",
            "\0",
            "\u{feff}",
            "\"id\":1,",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Damage::Replace(place, byte)),
        (any::<Index>(), token).prop_map(|(place, bytes)| Damage::Insert(place, bytes)),
        (any::<Index>(), 1..40_usize).prop_map(|(place, length)| Damage::Remove(place, length)),
        any::<Index>().prop_map(Damage::Truncate),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

fn damage(json: &mut Vec<u8>, damage: &Damage) {
    if json.is_empty() {
        return;
    }
    match damage {
        Damage::Replace(place, byte) => *place.get_mut(json) = *byte,
        Damage::Insert(place, bytes) => {
            let place = place.index(json.len());
            json.splice(place..place, bytes.iter().copied());
        }
        Damage::Remove(place, length) => {
            let place = place.index(json.len());
            json.drain(place..json.len().min(place + length));
        }
        Damage::Truncate(place) => json.truncate(place.index(json.len())),
        Damage::Repeat(from, to) => {
            let (from, to) = (from.index(json.len()), to.index(json.len()));
            json.extend_from_within(from.min(to)..from.max(to));
        }
    }
}

/// Any JSON value, with `MARK` in each of its strings and keys.
fn any_marked_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        Just(MARKED_NUMBER.to_owned()),
        Just(quoted(MARK)),
        Just(quoted(&format!("{MARK}\0"))),
        Just(quoted(&MARK.repeat(100))),
        Just(format!("\"{MARK}\\ud800\"")),
        "[a-z@ ]{0,4}".prop_map(|text| quoted(&format!("{text}{MARK}{text}"))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|values| format!("[{}]", values.join(","))),
            vec(inner, 0..3).prop_map(|values| {
                object(
                    &values
                        .into_iter()
                        .map(|value| (quoted(MARK), value))
                        .collect::<Vec<_>>(),
                )
            }),
        ]
    })
}

const MARK: &str = "Qx7Secret";
const MARKED_NUMBER: &str = "86753099357680";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn valid_record_round_trips_byte_for_byte(record in any_record()) {
        let json = record.record().to_json();
        check_parsers(&json);
        let plain: serde_json::Value = serde_json::from_slice(&json).unwrap();
        for field in FIELDS {
            prop_assert_eq!(plain.get(field).map(|value| value.as_str()), record.get(field).map(Some));
        }
        for parsed in [contract().parse_strict(&json), contract().parse_lenient(&json)] {
            let parsed = parsed.unwrap();
            prop_assert_eq!(&parsed, &record.record());
            prop_assert_eq!(parsed.to_json(), json.clone());
            prop_assert!(matches!(parsed.canonical_json(&json), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn order_of_fields_does_not_matter(
        record in any_record(),
        shuffled in Just((0..FIELDS.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let members = record.members();
        let members: Vec<_> = shuffled.into_iter().filter_map(|place| members.get(place).cloned()).collect();
        let json = object(&members);
        prop_assert_eq!(contract().parse_strict(json.as_bytes()).unwrap(), record.record());
        prop_assert_eq!(contract().parse_lenient(json.as_bytes()).unwrap(), record.record());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        check_parsers(&bytes);
    }

    #[test]
    fn arbitrary_json_like_text_never_panics(text in r#"[\{\}\[\],:"\\a-f0-9eE.+ -]{0,200}"#) {
        check_parsers(text.as_bytes());
        check_parsers(format!("{{\"id\":{text}").as_bytes());
    }

    #[test]
    fn damaged_record_never_panics(record in any_record(), damages in vec(any_damage(), 1..6)) {
        let mut json = record.record().to_json();
        for each in &damages {
            damage(&mut json, each);
            check_parsers(&json);
        }
    }

    #[test]
    fn error_never_quotes_a_value(
        field in prop::sample::select(FIELDS.to_vec()),
        value in any_marked_value(),
        truncated in any::<Option<Index>>(),
    ) {
        let marked = RawRecord::plain().with("first_name", MARK).with("email", format!("{MARK}@{MARK}"));
        let mut json = marked.json_with(field, &value).into_bytes();
        if let Some(place) = truncated {
            json.truncate(place.index(json.len()));
        }
        // The keys of an object instead of a record are field names, which are shown.
        let instead_of_a_record = if value.starts_with('{') { format!("[{value}]") } else { value };
        for json in [&json, &instead_of_a_record.into_bytes()] {
            for error in [contract().parse_strict(json).err(), contract().parse_lenient(json).err()].into_iter().flatten() {
                let text = format!("{error} {error:?} {error:#?}");
                prop_assert!(!text.contains(MARK) && !text.contains(MARKED_NUMBER), "{}", text);
            }
        }
    }

    #[test]
    fn debug_of_a_record_shows_only_its_id(field in prop::sample::select(FIELDS[1..].to_vec())) {
        let value = match field {
            "email" => format!("{MARK}@x"),
            "dob" | "registered_date" => "1234-12-23T01:02:03.456Z".into(),
            _ => MARK.into(),
        };
        let text = format!("{:?}", RawRecord::plain().with(field, value).record());
        prop_assert!(text.contains("0195d0b1") && !text.contains(MARK) && !text.contains("1234"), "{}", text);
    }
}
