//! Compares `model` with the contract: the compiled `.proto`, read by another implementation, and its examples.

use std::{collections::BTreeMap, fs, path::PathBuf};

use model::{FieldName, Reason, Record};
use proptest::prelude::*;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value,
};

use crate::any_record::{FIELDS, RawRecord, any_record, contract, object, slot, text};

fn contract_directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto-schema"))
}

fn message() -> MessageDescriptor {
    let files = protox::compile(["affluent/users/v1/user.proto"], [contract_directory()]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name(contract().name())
        .expect("the file has the message")
}

fn examples() -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(contract_directory().join("examples")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let named = paths.map(|path| {
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            fs::read(path).unwrap(),
        )
    });
    named.collect()
}

/// Parses JSON by protobuf's JSON mapping.
fn read(
    message: &MessageDescriptor,
    json: &[u8],
    options: &DeserializeOptions,
) -> serde_json::Result<DynamicMessage> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let record = DynamicMessage::deserialize_with_options(message.clone(), &mut deserializer, options)?;
    deserializer.end()?;
    Ok(record)
}

/// The name of a type in the contract and a value, in a comparable form.
type Typed = (String, String);

/// A field of our record, unless it is absent.
fn ours(record: &Record<'_>, field: &str) -> Option<Typed> {
    let string = |text: &str| ("string".to_owned(), text.to_owned());
    Some(match record.value(slot(field)) {
        model::Value::Absent => return None,
        model::Value::Text(text) => string(text),
        model::Value::Uuid(uuid) => string(&uuid.to_string()),
        model::Value::Timestamp(instant) => {
            let (seconds, millis) = (
                instant.as_millis().div_euclid(1000),
                instant.as_millis().rem_euclid(1000),
            );
            let text = format!("{seconds} s {} ns", millis * 1_000_000);
            ("google.protobuf.Timestamp".to_owned(), text)
        }
        other => panic!("{other:?} is not a type of the user"),
    })
}

/// The same field as parsed by protobuf's JSON mapping.
fn theirs(record: &DynamicMessage, field: &str) -> Option<Typed> {
    let descriptor = record.descriptor().get_field_by_name(field).unwrap();
    if descriptor.supports_presence() && !record.has_field(&descriptor) {
        return None;
    }
    Some(match &*record.get_field_by_name(field).unwrap() {
        Value::String(text) => ("string".to_owned(), text.clone()),
        Value::Message(value) => {
            let seconds = value
                .get_field_by_name("seconds")
                .and_then(|seconds| seconds.as_i64())
                .unwrap();
            let nanos = value
                .get_field_by_name("nanos")
                .and_then(|nanos| nanos.as_i32())
                .unwrap();
            (
                value.descriptor().full_name().to_owned(),
                format!("{seconds} s {nanos} ns"),
            )
        }
        other => panic!("{other:?} is not a type of the contract"),
    })
}

fn assert_agree(user: &Record<'_>, record: &DynamicMessage) {
    for field in FIELDS {
        assert_eq!(ours(user, field), theirs(record, field), "{field}");
    }
}

#[test]
fn names_order_and_types_match_the_contract() {
    let record = RawRecord::plain();
    let user = record.record();
    let expected = FIELDS.map(|field| {
        let (kind, _) = ours(&user, field).expect("the plain record has every field");
        (field.to_owned(), kind)
    });

    let message = message();
    let in_contract = message.fields().map(|field| {
        assert!(
            !field.is_list()
                && !field.is_map()
                && field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic()),
            "{}",
            field.name()
        );
        let kind = match field.kind() {
            Kind::String => "string".to_owned(),
            Kind::Message(message) => message.full_name().to_owned(),
            other => panic!("{other:?} is not a type of the contract"),
        };
        (field.name().to_owned(), kind)
    });
    assert_eq!(in_contract.collect::<Vec<_>>(), expected);
}

#[test]
fn fields_are_numbered_in_order() {
    let numbers: Vec<u32> = message().fields().map(|field| field.number()).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<u32>>());
}

#[test]
fn contract_tracks_presence_of_optional_fields() {
    for field in message().fields() {
        let is_required = contract().fields()[slot(field.name())].is_required();
        assert_eq!(
            is_required,
            !field.field_descriptor_proto().proto3_optional(),
            "{}",
            field.name()
        );
    }
}

#[test]
fn canonical_encoding_has_the_contracts_names_and_order() {
    let json = String::from_utf8(RawRecord::plain().record().to_json()).unwrap();
    assert_eq!(json, object(&RawRecord::plain().members()));
}

#[test]
fn examples_are_canonical_and_parse_equally() {
    let message = message();
    let examples = examples();
    assert!(examples.len() >= 7, "found only {:?}", examples.keys());
    for (name, json) in &examples {
        let strict = contract()
            .parse_strict(json)
            .unwrap_or_else(|invalid| panic!("{name}: {invalid}"));
        assert_eq!(contract().parse_lenient(json), Ok(strict.clone()), "{name}");
        assert_eq!(
            String::from_utf8_lossy(&strict.to_json()),
            String::from_utf8_lossy(json),
            "{name}"
        );
        assert!(strict.is_canonical(json), "{name}");
        assert_agree(
            &strict,
            &read(&message, json, &DeserializeOptions::new()).unwrap(),
        );
    }
}

#[test]
fn examples_match_their_names() {
    let examples = examples();
    let example = |name: &str| contract().parse_strict(&examples[name]).unwrap();
    let text_of = |name: &str, field: &str| text(&example(name), field).to_owned();
    assert_eq!(text_of("leading_zero_post_code.json", "post_code"), "0378");
    let born = example("born_before_1970.json");
    assert!(matches!(born.value(slot("dob")), model::Value::Timestamp(dob) if dob.as_millis() < 0));
    assert!(!text_of("non_ascii.json", "email").is_ascii());
    assert_eq!(text_of("longest_fields.json", "address").chars().count(), 512);
    assert!(text_of("escapes.json", "address").contains('\n'));
    let without = example("without_registered_date.json");
    assert_eq!(without.value(slot("registered_date")), &model::Value::Absent);
}

#[test]
fn unknown_field_is_refused_strictly_and_ignored_leniently() {
    let message = message();
    let mut members = RawRecord::plain().members();
    members.insert(3, ("\"nickname\"".into(), "{\"deep\":[1,null]}".into()));
    let json = object(&members).into_bytes();

    let error = contract().parse_strict(&json).unwrap_err();
    assert_eq!(error.field_name(), Some(&FieldName::Unknown("nickname".into())));
    assert_eq!(error.reason(), &Reason::UnknownField);
    assert!(read(&message, &json, &DeserializeOptions::new()).is_err());

    let user = contract().parse_lenient(&json).unwrap();
    assert_eq!(user.to_json(), RawRecord::plain().record().to_json());
    let lenient = DeserializeOptions::new().deny_unknown_fields(false);
    assert_agree(&user, &read(&message, &json, &lenient).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn protobuf_json_mapping_reads_canonical_encoding_equally(record in any_record()) {
        thread_local!(static MESSAGE: MessageDescriptor = message());
        let user = record.record();
        let json = user.to_json();
        let theirs = MESSAGE.with(|message| read(message, &json, &DeserializeOptions::new()).unwrap());
        assert_agree(&user, &theirs);
    }
}
