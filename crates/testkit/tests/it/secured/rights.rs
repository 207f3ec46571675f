//! Each right of the operations manual, taken away: the service or the command reports what the manual says.

use futures::stream::{self, StreamExt as _};
use reqwest::StatusCode;
use testkit::service::Service;
use uuid::Uuid;

use super::account::{Account, Right, documented};
use super::env::{SecuredEnv, TIMEOUT, eventually, garbage, record, run_command};

/// Cases that run at the same time.
const CONCURRENT_CASES: usize = 3;

/// Starts or runs what needs the right. Returns how its report differs from what the manual says.
async fn difference(
    env: &SecuredEnv,
    case: usize,
    right: &Right,
    all: &[Right],
    run: Uuid,
) -> Option<String> {
    let mut account = Account::new(env, &format!("{}_{case}", env.name)).await;
    if right.needed_for == "first start" {
        let fresh = format!("{}_{case}", env.name);
        match &*right.on {
            "topic" => account.names.topic = fresh,
            "dead-letter topic" => account.names.dead_letters = fresh,
            "keyspace" => account.names.table = "fresh_users".to_owned(),
            other => panic!("unknown resource {other}"),
        }
    }
    let others = all
        .iter()
        .filter(|other| other.service == right.service && *other != right);
    account.grant(env, others).await;
    let (kind, expected) = right.without.split_once(": `").unwrap();
    let expected = expected
        .trim_end_matches('`')
        .replace("DEAD_LETTERS", &account.names.dead_letters)
        .replace("TOPIC", &account.names.topic)
        .replace("GROUP", &account.names.group)
        .replace("KEYSPACE", &account.names.keyspace)
        .replace("ROLE", &account.role);
    let service = if right.service == "publisher" {
        "publisher"
    } else {
        "streamer"
    };
    let options = account.options(env, service, &format!("case-{case}"));
    let command = right
        .needed_for
        .strip_prefix('`')
        .map(|command| command.trim_end_matches('`'));
    let (code, log) = match (command, kind) {
        (Some(command), _) => {
            let mut streamer = Service::start(&options).unwrap();
            streamer.wait_until_ready(TIMEOUT).await.unwrap();
            env.wait_until_caught_up(&account.names.group).await;
            assert_eq!(streamer.terminate(TIMEOUT).await.unwrap(), Some(0));
            run_command(options, &command.replace("RUN", &run.to_string())).await
        }
        (None, "exit code 78") => {
            let service = Service::start(&options).unwrap();
            let code = service.wait(TIMEOUT).await;
            (code.ok().flatten(), service.last_lines(30))
        }
        (None, "not ready") => {
            let service = Service::start(&options).unwrap();
            eventually("readiness reports the missing right", async || {
                match service.get("/readyz").await {
                    Ok((StatusCode::SERVICE_UNAVAILABLE, body)) if body.contains(&expected) => Ok(()),
                    other => Err(format!("{right:?}: {other:?}")),
                }
            })
            .await;
            return None;
        }
        (None, other) => panic!("unknown report {other}"),
    };
    assert!(!log.contains("-secret"), "{log}");
    let is_expected = code == Some(78) && log.contains(&expected);
    (!is_expected).then(|| format!("{right:?}: exit code {code:?}, expected `{expected}`:\n{log}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_right_gives_the_documented_error() {
    let env = SecuredEnv::new("rights").await;
    env.create_all().await;
    let run = Uuid::new_v4();
    let records: Vec<_> = (1..20).map(|sequence| record(run, sequence)).collect();
    env.write(&[garbage(run, 0)]).await;
    env.write(&records).await;
    let all = documented();
    assert_eq!(all.len(), 15, "{all:?}");
    let differences: Vec<_> = stream::iter(all.iter().enumerate())
        .map(|(case, right)| difference(&env, case, right, &all, run))
        .buffer_unordered(CONCURRENT_CASES)
        .filter_map(async |difference| difference)
        .collect()
        .await;
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
