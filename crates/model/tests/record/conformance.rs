//! Compares `model` with the contract: the compiled `.proto`, read by another implementation, and its examples.

use std::{collections::BTreeMap, fs, path::PathBuf};

use model::{Field, FieldName, Instant, Reason, SCHEMA, Text, User};
use proptest::prelude::*;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value,
};

use crate::any_record::{RawRecord, any_record, object};

fn contract_directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto-schema"))
}

fn message() -> MessageDescriptor {
    let files = protox::compile(["affluent/users/v1/user.proto"], [contract_directory()]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name(SCHEMA)
        .expect("the contract has the message that SCHEMA names")
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

/// A field of our record, unless it is absent. Assumes that a `&str` is a string and an `Instant` a timestamp.
fn ours(user: &User<'_>, field: Field) -> Option<Typed> {
    let string = |text: &str| ("string".to_owned(), text.to_owned());
    let timestamp = |instant: Instant| {
        let (seconds, millis) = (
            instant.as_millis().div_euclid(1000),
            instant.as_millis().rem_euclid(1000),
        );
        (
            "google.protobuf.Timestamp".to_owned(),
            format!("{seconds} s {} ns", millis * 1_000_000),
        )
    };
    Some(match field {
        Field::Id => string(user.id().text().as_str()),
        Field::FirstName => string(user.first_name()),
        Field::LastName => string(user.last_name()),
        Field::Gender => string(user.gender()),
        Field::Address => string(user.address()),
        Field::PostCode => string(user.post_code()),
        Field::Email => string(user.email()),
        Field::Username => string(user.username()),
        Field::Dob => timestamp(user.dob()),
        Field::RegisteredDate => timestamp(user.registered_date()?),
        Field::Phone => string(user.phone()),
        Field::Picture => string(user.picture()),
    })
}

/// The same field as parsed by protobuf's JSON mapping.
fn theirs(record: &DynamicMessage, field: Field) -> Option<Typed> {
    let descriptor = record.descriptor().get_field_by_name(field.name()).unwrap();
    if descriptor.supports_presence() && !record.has_field(&descriptor) {
        return None;
    }
    Some(match &*record.get_field_by_name(field.name()).unwrap() {
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

fn assert_agree(user: &User<'_>, record: &DynamicMessage) {
    for field in Field::ALL {
        assert_eq!(ours(user, field), theirs(record, field), "{field}");
    }
}

#[test]
fn names_order_and_types_match_the_contract() {
    let record = RawRecord::plain();
    let user = record.user();
    let expected = Field::ALL.map(|field| {
        let (kind, _) = ours(&user, field).expect("the plain record has every field");
        (field.name().to_owned(), kind)
    });

    let message = message();
    let in_contract = message.fields().map(|field| {
        assert!(
            !field.is_list() && !field.is_map() && field.containing_oneof().is_none(),
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
    let message = message();
    for field in Field::ALL.into_iter().filter(|field| !field.is_required()) {
        let in_contract = message.get_field_by_name(field.name()).unwrap();
        assert!(in_contract.supports_presence(), "{field}");
    }
}

#[test]
fn canonical_encoding_has_the_contracts_names_and_order() {
    let json = String::from_utf8(RawRecord::plain().user().to_json()).unwrap();
    assert_eq!(json, object(&RawRecord::plain().members()));
}

#[test]
fn examples_are_canonical_and_parse_equally() {
    let message = message();
    let examples = examples();
    assert!(examples.len() >= 7, "found only {:?}", examples.keys());
    for (name, json) in &examples {
        let strict = User::parse_strict(json).unwrap_or_else(|invalid| panic!("{name}: {invalid}"));
        assert_eq!(User::parse_lenient(json), Ok(strict.clone()), "{name}");
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
    let example = |name: &str| User::parse_strict(&examples[name]).unwrap();
    assert_eq!(
        example("leading_zero_post_code.json").post_code().as_str(),
        "0378"
    );
    assert!(example("born_before_1970.json").dob().as_millis() < 0);
    assert!(!example("non_ascii.json").email().is_ascii());
    assert_eq!(
        example("longest_fields.json").address().chars().count(),
        Text::LONGEST
    );
    assert!(example("escapes.json").address().contains('\n'));
    assert_eq!(example("without_registered_date.json").registered_date(), None);
}

#[test]
fn unknown_field_is_refused_strictly_and_ignored_leniently() {
    let message = message();
    let mut members = RawRecord::plain().members();
    members.insert(3, ("\"nickname\"".into(), "{\"deep\":[1,null]}".into()));
    let json = object(&members).into_bytes();

    let error = User::parse_strict(&json).unwrap_err();
    assert_eq!(error.field_name(), Some(&FieldName::Unknown("nickname".into())));
    assert_eq!(error.reason(), &Reason::UnknownField);
    assert!(read(&message, &json, &DeserializeOptions::new()).is_err());

    let user = User::parse_lenient(&json).unwrap();
    assert_eq!(user, RawRecord::plain().user());
    let lenient = DeserializeOptions::new().deny_unknown_fields(false);
    assert_agree(&user, &read(&message, &json, &lenient).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn protobuf_json_mapping_reads_canonical_encoding_equally(record in any_record()) {
        thread_local!(static MESSAGE: MessageDescriptor = message());
        let user = record.user();
        let json = user.to_json();
        let theirs = MESSAGE.with(|message| read(message, &json, &DeserializeOptions::new()).unwrap());
        assert_agree(&user, &theirs);
    }
}
