//! The help of each command of each program.

use std::path::Path;
use std::process::Command;

use testkit::workspace::binary;

/// `bench` has a test of its own: a test run does not build it.
const PROGRAMS: [&str; 5] = ["ingester", "publisher", "streamer", "testkit", "chaos"];

fn help(program: &Path, command: &[String]) -> String {
    let output = Command::new(program)
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{} {command:?}", program.display());
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help lists, without the one that every program has.
fn commands(help: &str) -> Vec<String> {
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    // Descriptions that are continued on the next line are indented further.
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Adds the commands below `command` whose help has no example.
fn without_example(program: &Path, command: &[String], found: &mut Vec<String>) {
    let help = help(program, command);
    if !help.contains("Example") {
        found.push(format!("{} {}", program.display(), command.join(" ")));
    }
    for name in commands(&help) {
        without_example(program, &[command, &[name]].concat(), found);
    }
}

#[test]
fn help_of_each_command_has_an_example() {
    let mut found = Vec::new();
    for program in PROGRAMS {
        without_example(&binary(program).unwrap(), &[], &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}
