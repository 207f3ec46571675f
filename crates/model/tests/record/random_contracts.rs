//! Properties of any contract: what its strict reader accepts, its lenient one and its JSON Schema accept, and the
//! canonical encoding round-trips.

use model::{Contract, Record};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::any_record::quoted;

/// The type of a generated field, with texts of valid JSON values.
#[derive(Clone, Copy, Debug)]
struct Type {
    proto: &'static str,
    rule: &'static str,
    can_be_key: bool,
    values: &'static [&'static str],
}

const fn of(
    proto: &'static str,
    rule: &'static str,
    can_be_key: bool,
    values: &'static [&'static str],
) -> Type {
    Type {
        proto,
        rule,
        can_be_key,
        values,
    }
}

const TYPES: &[Type] = &[
    of(
        "string",
        "",
        true,
        &[
            r#""a""#,
            r#"" é""#,
            r#""\u0061\n\"""#,
            r#""語 語""#,
            r#""\ud83d\ude00""#,
        ],
    ),
    of(
        "string",
        "max_length: 3",
        true,
        &[r#""abc""#, r#""\u00e9\u00e9\u00e9""#],
    ),
    of(
        "string",
        "format: EMAIL",
        true,
        &[r#""a@b""#, r#""\u0061@b.example""#],
    ),
    of(
        "string",
        "format: UUID",
        true,
        &[
            r#""0195D0B1-7a4c-7f3e-9b1a-2c3d4e5f6071""#,
            r#""ffffffff-ffff-ffff-ffff-ffffffffffff""#,
        ],
    ),
    of("bool", "", false, &["true", "false"]),
    of(
        "int32",
        "",
        true,
        &["0", "-2147483648", "2147483647", r#""7""#, r#""\u0037""#],
    ),
    of("sint32", "", true, &["1", "-1"]),
    of("uint32", "", true, &["0", "4294967295", r#""4294967295""#]),
    of(
        "int64",
        "",
        true,
        &[
            "9007199254740993",
            r#""9223372036854775807""#,
            r#""-9223372036854775808""#,
            "0",
        ],
    ),
    of("sfixed64", "", true, &["-5"]),
    of(
        "float",
        "",
        false,
        &[
            "0",
            "-0",
            "-0.0",
            "1.5",
            "16777217",
            "1e-45",
            "3.4028235e38",
            "0.1",
            "1E+2",
        ],
    ),
    of(
        "double",
        "",
        false,
        &[
            "0.1",
            "-0",
            "1e300",
            "5e-324",
            "1e16",
            "123456789012345680000",
            "1.0",
            "7",
        ],
    ),
    of(
        "bytes",
        "",
        false,
        &[
            r#""""#,
            r#""AA==""#,
            r#""AA""#,
            r#""-_8=""#,
            r#""+/8""#,
            r#""\u0041A==""#,
        ],
    ),
    of(
        "Color",
        "",
        false,
        &[r#""COLOR_NONE""#, r#""RED""#, r#""\u0052ED""#],
    ),
    of(
        "google.protobuf.Timestamp",
        "",
        false,
        &[
            r#""2024-02-29T23:59:59.1239+01:00""#,
            r#""0001-01-01T00:00:00Z""#,
            r#""9999-12-31T23:59:59.999Z""#,
        ],
    ),
];

/// A field that is not the key.
#[derive(Clone, Debug)]
struct Field {
    kind: Type,
    /// How the declaration begins, how it ends, and the cardinality of the value.
    cardinality: Cardinality,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cardinality {
    Required,
    Optional,
    List,
    Map,
}

impl Field {
    fn declaration(&self, number: usize, can_be_personal: bool) -> String {
        let Type { proto, rule, .. } = self.kind;
        let proto = match self.cardinality {
            Cardinality::Required => proto.to_owned(),
            Cardinality::Optional => format!("optional {proto}"),
            Cardinality::List => format!("repeated {proto}"),
            Cardinality::Map => format!("map<string, {proto}>"),
        };
        let personal = if can_be_personal && number.is_multiple_of(2) {
            "personal: true"
        } else {
            ""
        };
        format!("{proto} f{number} = {number} [(affluent.options.v1.rule) = {{ {rule} {personal} }}];\n")
    }

    /// The JSON of a value, or nothing if the field is absent. `choice` decides.
    fn value(&self, choice: &[u8]) -> Option<String> {
        let pick = |byte: u8| self.kind.values[usize::from(byte) % self.kind.values.len()].to_owned();
        match self.cardinality {
            Cardinality::Required => Some(pick(choice[0])),
            _ if choice[0].is_multiple_of(4) => None,
            Cardinality::Optional => Some(pick(choice[1])),
            Cardinality::List => {
                let elements: Vec<_> = choice[1..]
                    .iter()
                    .take(usize::from(choice[0] % 4))
                    .map(|byte| pick(*byte))
                    .collect();
                Some(format!("[{}]", elements.join(" , ")))
            }
            Cardinality::Map => {
                let mut names = ["\"b\"", "\"\\u0061\"", "\"é\"", "\"a/b\""];
                names.rotate_left(usize::from(choice[1] % 4));
                let values = choice[1..].iter().take(usize::from(choice[0] % 4));
                let entries: Vec<_> = names
                    .iter()
                    .zip(values)
                    .map(|(name, byte)| format!("{name}:{}", pick(*byte)))
                    .collect();
                Some(format!("{{{}}}", entries.join(",")))
            }
        }
    }
}

fn any_field() -> impl Strategy<Value = Field> {
    let shapes = vec![
        Cardinality::Required,
        Cardinality::Optional,
        Cardinality::List,
        Cardinality::Map,
    ];
    (select(TYPES), select(shapes)).prop_map(|(kind, cardinality)| Field { kind, cardinality })
}

/// A contract's fields; the first one is the key.
fn any_fields() -> impl Strategy<Value = Vec<Field>> {
    let keys: Vec<_> = TYPES.iter().copied().filter(|kind| kind.can_be_key).collect();
    (select(keys), vec(any_field(), 0..8)).prop_map(|(kind, mut fields)| {
        fields.insert(
            0,
            Field {
                kind,
                cardinality: Cardinality::Required,
            },
        );
        fields
    })
}

fn contract(fields: &[Field]) -> Contract {
    let declarations: String = fields
        .iter()
        .enumerate()
        .map(|(index, field)| field.declaration(index + 1, index > 0))
        .collect();
    let source = format!(
        r#"syntax = "proto3";
        import "affluent/options/v1/options.proto";
        import "google/protobuf/timestamp.proto";
        enum Color {{ COLOR_NONE = 0; RED = 4; }}
        message Any {{
          option (affluent.options.v1.record) = {{ resource: "any" key: "f1" }};
          {declarations}
        }}"#
    );
    Contract::from_source(&source).unwrap_or_else(|error| panic!("{error}: {source}"))
}

fn json(fields: &[Field], choices: &[Vec<u8>]) -> String {
    let members = fields
        .iter()
        .zip(choices)
        .enumerate()
        .filter_map(|(index, (field, choice))| {
            Some(format!(
                "{}: {}",
                quoted(&format!("f{}", index + 1)),
                field.value(choice)?
            ))
        });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// The CQL values of a record.
fn bound(record: &Record<'_>) -> Vec<u8> {
    let mut wire = vec![];
    for slot in 0..record.contract().fields().len() {
        record.bind(slot, false, &mut wire);
    }
    wire
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn accepted_record_is_accepted_by_every_reader(
        (fields, choices) in any_fields().prop_flat_map(|fields| {
            let choices = vec(vec(any::<u8>(), 5), fields.len());
            (Just(fields), choices)
        })
    ) {
        let contract = contract(&fields);
        let json = json(&fields, &choices);
        let strict = contract.parse_strict(json.as_bytes());
        let strict = strict.unwrap_or_else(|error| panic!("{error}: {json}"));
        let lenient = contract.parse_lenient(json.as_bytes());
        prop_assert_eq!(lenient.as_ref(), Ok(&strict));

        let canonical = strict.to_json();
        let again = contract.parse_strict(&canonical);
        prop_assert_eq!(again.as_ref().map(Record::to_json), Ok(canonical.clone()), "{}", json);
        prop_assert_eq!(again.as_ref(), Ok(&strict));
        let again = contract.parse_lenient(&canonical);
        prop_assert_eq!(bound(again.as_ref().unwrap()), bound(&strict));

        let scanned = contract.parse_canonical(&canonical);
        prop_assert_eq!(scanned.is_some(), !canonical.contains(&b'\\'), "{}", String::from_utf8_lossy(&canonical));
        if let Some(scanned) = scanned {
            prop_assert_eq!(&scanned, &strict);
            let two = format!("{0},{0}", str::from_utf8(&canonical).unwrap());
            prop_assert_eq!(contract.canonical_length(&two), Some(canonical.len()));
        }

        let key = strict.key();
        prop_assert_eq!(contract.parse_key_strict(key.text().as_bytes()), Ok(key.clone()));
        prop_assert_eq!(contract.parse_key(key.text().as_bytes()), Ok(key));

        let schema = jsonschema::validator_for(&contract.json_schema()).unwrap();
        for json in [json.as_bytes(), &canonical] {
            let value: serde_json::Value = serde_json::from_slice(json).unwrap();
            prop_assert!(schema.is_valid(&value), "{value} by {}", contract.json_schema());
        }
    }

    /// A record of another contract, or a damaged one, is refused or read, but never differently by the two readers.
    #[test]
    fn strict_reader_accepts_no_more_than_the_lenient_one(
        (fields, choices) in any_fields().prop_flat_map(|fields| {
            let choices = vec(vec(any::<u8>(), 5), fields.len());
            (Just(fields), choices)
        }),
        other in any_fields(),
        (place, byte) in (any::<prop::sample::Index>(), any::<u8>()),
    ) {
        let contract = contract(&other);
        let mut json = json(&fields, &choices).into_bytes();
        for _ in 0..2 {
            let (strict, lenient) = (contract.parse_strict(&json), contract.parse_lenient(&json));
            if let Ok(strict) = &strict {
                prop_assert_eq!(lenient.as_ref(), Ok(strict));
            }
            if let Ok(lenient) = &lenient {
                let canonical = lenient.to_json();
                prop_assert_eq!(contract.parse_strict(&canonical).map(|it| it.to_json()), Ok(canonical.clone()));
            }
            *place.get_mut(&mut json) = byte;
        }
    }
}
