//! Passwords and the files that hold them.

use super::*;
use crate::config::draft::json;

#[test]
fn password_of_digits_keeps_its_zeros_and_is_not_shown() {
    let variables = [("EXAMPLE__CASSANDRA__PASSWORD", "00123")];
    let example: ExampleSettings = load(None, variables).unwrap();
    assert!(!format!("{example:?}").contains("00123"));
    assert_eq!(example.cassandra.password.unwrap().expose(), "00123");
}

#[test]
fn error_does_not_quote_a_secret() {
    let file = file("[cassandra]\npassword = 1.25\n[properties]\nsasl_password = [1.25]\n");
    let name = path(&file);
    assert_eq!(
        errors(Some(&file), []),
        [
            format!("{name}:2: cassandra.password: must be a text in quotes"),
            format!("{name}:4: properties.sasl_password: must be a text in quotes"),
        ]
    );
}

#[test]
fn secret_file_is_read_without_its_last_line_end() {
    let secret = file("s3cret\n");
    let example: ExampleSettings =
        load(None, [("EXAMPLE__CASSANDRA__PASSWORD_FILE", path(&secret))]).unwrap();
    assert_eq!(example.cassandra.password.unwrap().expose(), "s3cret");
    let errors = errors(None, [("EXAMPLE__CASSANDRA__PASSWORD_FILE", "/nowhere/secret")]);
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with(
            "environment variable EXAMPLE__CASSANDRA__PASSWORD_FILE: cassandra.password_file: failed to read \
             /nowhere/secret: "
        ),
        "{errors:?}"
    );
}

#[test]
fn environment_overrides_a_key_file_of_the_file_and_vice_versa() {
    let secret = file("in a file\n");
    let password = |file: &tempfile::NamedTempFile, variable: (&str, &str)| {
        let example: ExampleSettings = load(Some(file.path()), [variable]).unwrap();
        example.cassandra.password.unwrap().expose().to_owned()
    };
    let by_name = file(&format!("[cassandra]\npassword_file = '{}'\n", path(&secret)));
    assert_eq!(
        password(&by_name, ("EXAMPLE__CASSANDRA__PASSWORD", "direct")),
        "direct"
    );
    let direct = file("[cassandra]\npassword = 'direct'\n");
    assert_eq!(
        password(&direct, ("EXAMPLE__CASSANDRA__PASSWORD_FILE", path(&secret))),
        "in a file"
    );
}

#[test]
fn key_and_key_file_in_one_layer_are_an_error() {
    let secret = file("s3cret\n");
    let both = file(&format!(
        "[cassandra]\npassword = 'x'\npassword_file = '{}'\n",
        path(&secret)
    ));
    let in_file = errors(Some(&both), []);
    let in_environment = errors(
        None,
        [
            ("EXAMPLE__CASSANDRA__PASSWORD", "x"),
            ("EXAMPLE__CASSANDRA__PASSWORD_FILE", path(&secret)),
        ],
    );
    assert_eq!(
        in_file,
        [format!(
            "{0}:3: cassandra.password_file: cassandra.password is also set, by {0}:2; set only one of the two",
            path(&both)
        )]
    );
    assert_eq!(
        in_environment,
        [
            "environment variable EXAMPLE__CASSANDRA__PASSWORD_FILE: cassandra.password_file: cassandra.password is \
             also set, by environment variable EXAMPLE__CASSANDRA__PASSWORD; set only one of the two"
        ]
    );
}

#[test]
fn key_file_in_a_map_is_replaced_by_the_content() {
    let secret = file("s3cret\n");
    let path = path(&secret);
    let in_file = file(&format!(
        "[properties]\nsasl_password_file = '{path}'\nsasl_username = 'me'\n"
    ));
    let in_environment = vec![("EXAMPLE__PROPERTIES__SASL_PASSWORD_FILE", path)];
    for (file, variables) in [(Some(in_file.path()), Vec::new()), (None, in_environment)] {
        let mut example: ExampleSettings = load(file, variables).unwrap();
        example.properties.remove("sasl_username");
        let expected = BTreeMap::from([("sasl_password".to_owned(), "s3cret".to_owned())]);
        assert_eq!(example.properties, expected);
    }
}

#[test]
fn print_shows_values_and_origins_and_masks_secrets() {
    let secret = file("hunter2\n");
    let file = file(&format!(
        "[cassandra]\npassword_file = '{}'\n[properties]\n'sasl.password' = 'hunter2'\n",
        path(&secret)
    ));
    let variables = [
        ("EXAMPLE__CASSANDRA__PORT", "1"),
        ("EXAMPLE__CASSANDRA__CONTACT_POINTS", "a:1,b:2"),
    ];
    let loaded = Draft::<ExampleSettings>::read(Some(file.path()), variables)
        .finish()
        .unwrap();
    let text = cli::print(&json(&loaded.settings), &loaded.keys, &loaded.origins);
    let (name, secret) = (path(&file), path(&secret));
    for line in [
        "cassandra.contact_points = [\"a:1\",\"b:2\"]  # environment variable EXAMPLE__CASSANDRA__CONTACT_POINTS",
        "cassandra.max_port = 10000  # default",
        &format!("cassandra.password = \"***\"  # file {secret} named by {name}:2"),
        "cassandra.port = 1  # environment variable EXAMPLE__CASSANDRA__PORT",
        &format!("properties.sasl.password = \"***\"  # {name}:4"),
        "process.shutdown_grace = \"25s\"  # default",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line}\n{text}");
    }
    assert!(!text.contains("hunter2"));
    let unset = Draft::<ExampleSettings>::read(None, NO_VARIABLES)
        .finish()
        .unwrap();
    let text = cli::print(&json(&unset.settings), &unset.keys, &unset.origins);
    assert!(
        text.contains("cassandra.password = (not set)  # default\n"),
        "{text}"
    );
}
