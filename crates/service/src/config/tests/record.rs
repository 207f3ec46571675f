//! The contract of the settings `record`.

use super::*;

/// A contract whose only field is its key.
fn contract(message: &str, field: &str) -> String {
    format!(
        "syntax = \"proto3\";\npackage shop.v1;\nimport \"affluent/options/v1/options.proto\";\n\
         message {message} {{\noption (affluent.options.v1.record) = {{ resource: \"orders\" key: \"id\" }};\n\
         {field} = 1;\n}}\n"
    )
}

/// The errors of the settings `record` in a file, and the path of that file.
fn record_errors(record: &str) -> (Vec<String>, String) {
    let file = file(&format!("[record]\n{record}"));
    let mut draft = Draft::<ExampleSettings>::read(Some(file.path()), NO_VARIABLES);
    draft.check(ExampleSettings::validate);
    draft.check(ExampleSettings::check_files);
    let errors = draft.finish().map(drop).unwrap_err();
    (
        errors.iter().map(ToString::to_string).collect(),
        path(&file).to_owned(),
    )
}

#[test]
fn record_is_the_user_unless_a_proto_is_named() {
    let record = RecordSettings::default().load().unwrap();
    assert_eq!(record.name(), "affluent.users.v1.User");
    assert_eq!(&*default_topic(&record), "users_created");
    let proto = file(&contract("Order", "string id"));
    let variables = [("EXAMPLE__RECORD__PROTO", path(&proto))];
    let example: ExampleSettings = load(None, variables).unwrap();
    let record = example.record.load().unwrap();
    assert_eq!((record.name(), record.resource()), ("shop.v1.Order", "orders"));
    assert_eq!(&*default_topic(&record), "orders_created");
}

#[test]
fn refused_contract_is_an_error_of_its_key() {
    let broken = file("message");
    let proto = path(&broken);
    let (errors, config) = record_errors("include = ['shared']\nmessage = 'shop.v1.Order'\n");
    assert_eq!(
        errors,
        [
            format!("{config}:2: record.include: must not be set without record.proto"),
            format!("{config}:3: record.message: must not be set without record.proto"),
        ]
    );
    let (errors, config) = record_errors(&format!("proto = '{proto}'\n"));
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with(&format!("{config}:2: record.proto: failed to compile {proto}: ")),
        "{errors:?}"
    );
    let order = file(&contract("Order", "optional string id"));
    let proto = path(&order);
    let (errors, config) = record_errors(&format!("proto = '{proto}'\ninclude = '/nowhere'\n"));
    assert_eq!(
        errors,
        [format!("{config}:3: record.include: /nowhere is not a folder")]
    );
    let (errors, config) = record_errors(&format!("message = 'shop.v1.Ordre'\nproto = '{proto}'\n"));
    assert!(
        errors[0].starts_with(&format!("{config}:2: record.message: "))
            && errors[0].ends_with("shop.v1.Order"),
        "{errors:?}"
    );
    let (errors, config) = record_errors(&format!("proto = '{proto}'\n"));
    let name = order.path().file_name().unwrap().to_str().unwrap();
    assert!(
        errors[0].starts_with(&format!("{config}:2: record.proto: {name}:6: field `id`: "))
            && errors[0].contains("remove `optional`"),
        "{errors:?}"
    );
}
