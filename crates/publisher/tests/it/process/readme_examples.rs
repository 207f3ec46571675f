//! Runs the README's examples.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::api::auth::token_line;
use crate::support::publisher_process::ready;
use crate::support::sample_users::user;

const README: &str = include_str!("../../../README.md");

/// Each command of the README without its prompt, and its expected output lines.
fn examples() -> Vec<(String, Vec<String>)> {
    let mut examples: Vec<(String, Vec<String>)> = Vec::new();
    let blocks = README.split("```console\n").skip(1);
    for line in blocks.flat_map(|block| block.split("```").next().unwrap().lines()) {
        match line.strip_prefix("$ ") {
            Some(command) => examples.push((command.to_owned(), vec![])),
            None => examples.last_mut().unwrap().1.push(line.to_owned()),
        }
    }
    examples
}

async fn shell(command: &str, folder: &Path, token: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .env("TOKEN", token)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn readme_examples_print_the_shown_output() {
    let (publisher, topic) = ready().await;
    let folder = tempfile::tempdir().unwrap();
    let user = user();
    std::fs::write(folder.path().join("user.json"), user.to_string()).unwrap();
    let mut printed = 0;
    for (command, lines) in examples() {
        let command = command
            .replace("http://127.0.0.1:8080", &publisher.url)
            .replace("http://127.0.0.1:9082", &publisher.admin);
        let output = shell(&command, folder.path(), "a secret").await;
        let mut rest = output.as_str();
        for line in lines {
            let at = rest
                .find(&line)
                .unwrap_or_else(|| panic!("{command}: no {line} in {output}"));
            rest = &rest[at + line.len()..];
            printed += 1;
        }
    }
    assert!(printed >= 3, "{printed}");
    assert_eq!(
        topic.ids().await.into_iter().collect::<Vec<_>>(),
        [user["id"].as_str().unwrap()]
    );
    let tokens = std::fs::read_to_string(folder.path().join("tokens")).unwrap();
    assert_eq!(tokens, token_line("ingester", "a secret"));
}
