//! The whole chain and the operator's commands, with exactly the rights of the operations manual.

use serde_json::Value;
use testkit::service::Service;
use uuid::Uuid;

use super::account::{Account, Right, documented};
use super::env::{SecuredEnv, TIMEOUT, eventually, fetch, garbage, run_command};

const USERS: usize = 60;

fn of<'a>(service: &str, rights: &'a [Right]) -> Vec<&'a Right> {
    rights.iter().filter(|right| right.service == service).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_and_commands_need_only_the_documented_rights() {
    let env = SecuredEnv::new("story").await;
    // The first start: the services create topics and tables. Only the keyspace is there.
    let keyspace =
        "CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    env.table.run(keyspace).await.unwrap();
    let rights = documented();
    let [publisher, streamer] = ["publisher", "streamer"].map(|service| format!("{}_{service}", env.name));
    let publisher = Account::new(&env, &publisher).await;
    publisher.grant(&env, of("publisher", &rights)).await;
    let streamer = Account::new(&env, &streamer).await;
    let (creating, other): (Vec<_>, Vec<_>) = of("streamer", &rights)
        .into_iter()
        .partition(|right| right.server == "Kafka" || right.right == "CREATE");
    streamer.grant(&env, creating).await;

    let options = streamer.options(&env, "streamer", "creator");
    let mut creator = Service::start(&options).unwrap();
    creator.wait_until_ready(TIMEOUT).await.unwrap();
    assert_eq!(creator.terminate(TIMEOUT).await.unwrap(), Some(0));
    // From here on another role, which has created nothing.
    let role = format!("{}_writer", env.name);
    let streamer = Account {
        names: streamer.names.clone(),
        ..Account::with_login(&env, &role, streamer.login.clone()).await
    };
    streamer
        .grant(
            &env,
            other.into_iter().filter(|right| right.server == "Cassandra"),
        )
        .await;

    let mut publishing = Service::start(&publisher.options(&env, "publisher", "publisher")).unwrap();
    let options = streamer.options(&env, "streamer", "streamer");
    let mut streaming = Service::start(&options).unwrap();
    publishing.wait_until_ready(TIMEOUT).await.unwrap();
    streaming.wait_until_ready(TIMEOUT).await.unwrap();
    let summary = fetch(&env, &publishing, USERS).await;
    assert_eq!(summary["accepted"], USERS, "{summary}");
    let foreign = Uuid::new_v4();
    env.write(&[garbage(foreign, 0)]).await;
    env.wait_until_caught_up(&streamer.names.group).await;
    assert_eq!(env.table.count().await.unwrap(), i64::try_from(USERS).unwrap());
    let letters = env.records.read(&env.dead_letters()).await.unwrap();
    assert_eq!(letters.len(), 1);

    let run = summary["run"]
        .as_str()
        .unwrap_or_else(|| panic!("{summary}"))
        .to_owned();
    let (status, body) = streaming.get(&format!("/v1/runs/{run}")).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let state: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(state["rows"], USERS, "{state}");
    let succeed = async |command: &str| {
        let (code, output) = run_command(options.clone(), command).await;
        assert_eq!(code, Some(0), "{command}: {output}");
        output
    };
    for command in ["status", "dead-letters list", "verify"] {
        succeed(command).await;
    }
    succeed(&format!("runs show {run}")).await;
    succeed("redrive --dry-run").await;
    assert_eq!(streaming.terminate(TIMEOUT).await.unwrap(), Some(0));

    // Rows that were lost are written again.
    env.table.run("TRUNCATE {table}").await.unwrap();
    succeed("replay --from-offset 0 --yes").await;
    streaming.spawn().unwrap();
    streaming.wait_until_ready(TIMEOUT).await.unwrap();
    eventually("the rows are written again", async || {
        let count = env.table.count().await.map_err(|error| error.to_string())?;
        if count == i64::try_from(USERS).unwrap() {
            Ok(())
        } else {
            Err(count.to_string())
        }
    })
    .await;
    succeed("verify").await;
    assert_eq!(streaming.terminate(TIMEOUT).await.unwrap(), Some(0));
    assert_eq!(publishing.terminate(TIMEOUT).await.unwrap(), Some(0));
}
