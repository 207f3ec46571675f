//! The compiled-in contract.

use model::{Contract, CqlType, Presence};

#[test]
fn user_has_the_columns_of_the_table_in_order() {
    let contract = Contract::user();
    let columns: Vec<_> = contract
        .fields()
        .iter()
        .map(|field| (field.name(), field.cql().to_string()))
        .collect();
    let texts = |name| (name, "text".to_owned());
    assert_eq!(
        columns,
        [
            ("id", "uuid".to_owned()),
            texts("first_name"),
            texts("last_name"),
            texts("gender"),
            texts("address"),
            texts("post_code"),
            texts("email"),
            texts("username"),
            ("dob", "timestamp".to_owned()),
            ("registered_date", "timestamp".to_owned()),
            texts("phone"),
            texts("picture"),
        ]
    );
    assert_eq!(
        (contract.name(), contract.title()),
        ("affluent.users.v1.User", "User")
    );
    assert_eq!(contract.resource(), "users");
    assert_eq!(contract.primary_key().collect::<Vec<_>>(), [0]);
    for field in contract.fields() {
        let is_optional = field.name() == "registered_date";
        assert_eq!(
            field.presence() == Presence::Optional,
            is_optional,
            "{}",
            field.name()
        );
        assert_eq!(
            field.is_personal(),
            !["id", "registered_date"].contains(&field.name())
        );
        assert_eq!(
            contract.fields()[contract.slot(field.name()).unwrap()].number(),
            field.number()
        );
    }
    assert_eq!(contract.slot("firstName"), None);
    assert_eq!(contract.hash().len(), 16);
}

#[test]
fn each_type_has_its_column() {
    let contract = Contract::from_source(
        r#"syntax = "proto3";
        package t;
        import "affluent/options/v1/options.proto";
        import "google/protobuf/timestamp.proto";
        enum Color { NONE = 0; RED = 3; }
        message All {
          option (affluent.options.v1.record) = { resource: "all" key: "b" clustering: ["a", "j"] };
          google.protobuf.Timestamp a = 9; // The order is that of the numbers.
          sfixed64 b = 1;
          string c = 2;
          bool d = 3;
          sint32 e = 4;
          fixed32 f = 5;
          float g = 6;
          double h = 7;
          bytes i = 8;
          Color j = 10;
          repeated string k = 11 [(affluent.options.v1.rule).format = UUID];
          map<string, Color> l = 12;
          optional int64 m = 13;
          repeated google.protobuf.Timestamp n = 14;
        }"#,
    )
    .unwrap();
    let columns: Vec<_> = contract
        .fields()
        .iter()
        .map(|field| field.cql().to_string())
        .collect();
    assert_eq!(
        columns,
        [
            "bigint",
            "text",
            "boolean",
            "int",
            "bigint",
            "float",
            "double",
            "blob",
            "timestamp",
            "text",
            "frozen<list<uuid>>",
            "frozen<map<text, text>>",
            "bigint",
            "frozen<list<timestamp>>",
        ]
    );
    assert_eq!(contract.fields()[11].cql(), CqlType::Map(Box::new(CqlType::Text)));
    assert_eq!(contract.primary_key().collect::<Vec<_>>(), [0, 8, 9]);
}

#[test]
fn hash_differs_by_what_a_reader_has_to_know() {
    let contract = |field: &str, key: &str| {
        let source = format!(
            r#"syntax = "proto3";
            import "affluent/options/v1/options.proto";
            message M {{
              option (affluent.options.v1.record) = {{ resource: "m" key: "{key}" }};
              string a = 1;
              string b = 2;
              {field}
            }}"#
        );
        Contract::from_source(&source).unwrap().hash().to_owned()
    };
    let base = contract("int32 c = 3;", "a");
    assert_eq!(base, contract("// A comment.\n int32 c = 3;", "a"));
    for (field, key) in [
        ("int32 d = 3;", "a"),
        ("int32 c = 4;", "a"),
        ("int64 c = 3;", "a"),
        ("optional int32 c = 3;", "a"),
        ("repeated int32 c = 3;", "a"),
        ("", "a"),
        ("int32 c = 3;", "b"),
    ] {
        assert_ne!(base, contract(field, key), "{field} {key}");
    }
}
