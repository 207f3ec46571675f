//! The Spark job of the original hands its topic and its table over, as the operations manual says, and gets them back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::cassandra_client::{TEXT_COLUMNS, UserRow};
use testkit::comparison::expected;
use testkit::process::Program;
use testkit::servers::{Software, jars};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;
use uuid::Uuid;

use crate::support::commands::{new_ids, run_command, stop};
use crate::support::test_env::{DEADLINE, TestEnv, eventually, record};
use crate::support::traffic::{metric, wait_for_exit};

const KEYSPACE: &str =
    "CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
/// As the original creates it.
const TABLE: &str = "CREATE TABLE {ks}.created_users (id UUID PRIMARY KEY, first_name TEXT, last_name TEXT, gender TEXT, \
                     address TEXT, post_code TEXT, email TEXT, username TEXT, registered_date TEXT, phone TEXT, picture TEXT)";
/// What it writes beside the id.
const COLUMNS: [&str; 10] = [
    "first_name",
    "last_name",
    "gender",
    "address",
    "post_code",
    "email",
    "username",
    "registered_date",
    "phone",
    "picture",
];

/// What the Spark job does: micro-batches of plain inserts, under the time of the write; its offsets are in files of its
/// own, and Kafka knows nothing of them.
struct Job<'a> {
    env: &'a TestEnv,
    folder: PathBuf,
}

impl<'a> Job<'a> {
    fn new(env: &'a TestEnv) -> Self {
        let folder = env.folder().join("checkpoint");
        for part in ["offsets", "commits"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        Self { env, folder }
    }

    /// The latest batch that is complete.
    fn batch(&self) -> Option<u64> {
        let commits = fs::read_dir(self.folder.join("commits")).unwrap();
        let names = commits.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| name.parse().unwrap()).max()
    }

    /// Where it goes on.
    fn offsets(&self) -> BTreeMap<i32, i64> {
        let Some(batch) = self.batch() else {
            return BTreeMap::new();
        };
        let log = fs::read_to_string(self.folder.join(format!("offsets/{batch}"))).unwrap();
        let mut offsets: BTreeMap<String, BTreeMap<i32, i64>> =
            serde_json::from_str(log.lines().last().unwrap()).unwrap();
        offsets.remove(&self.env.topic).unwrap()
    }

    /// One micro-batch, up to `end`.
    async fn works_up_to(&self, end: &BTreeMap<i32, i64>) {
        let number = self.batch().map_or(0, |batch| batch + 1);
        let from = self.offsets();
        let offsets = json!({ &self.env.topic: end });
        let log = format!("v1\n{{\"batchWatermarkMs\":0,\"batchTimestampMs\":1,\"conf\":{{}}}}\n{offsets}");
        fs::write(self.folder.join(format!("offsets/{number}")), log).unwrap();
        for found in self.env.kafka.read(&self.env.topic).await.unwrap() {
            let from = from.get(&found.partition).copied().unwrap_or(0);
            if (from..end[&found.partition]).contains(&found.offset) {
                self.insert(&found.value.unwrap()).await;
            }
        }
        let log = "v1\n{\"nextBatchWatermarkMs\":0}";
        fs::write(self.folder.join(format!("commits/{number}")), log).unwrap();
    }

    async fn insert(&self, record: &[u8]) {
        let record: Value = serde_json::from_slice(record).unwrap();
        let values = COLUMNS.map(|column| format!("'{}'", record[column].as_str().unwrap()));
        let insert = format!(
            "INSERT INTO {{ks}}.created_users (id, {}) VALUES ({}, {})",
            COLUMNS.join(", "),
            record["id"].as_str().unwrap(),
            values.join(", ")
        );
        self.env.cassandra.run(&insert).await.unwrap();
    }
}

/// The commands that the operations manual gives for the hand-over.
fn commands() -> String {
    let manual = workspace::root().unwrap().join("docs/operations.md");
    let manual = fs::read_to_string(manual).unwrap();
    let section = manual
        .split("\n## ")
        .find(|it| it.starts_with("Moving from the Spark job"));
    let block = section.unwrap().split("```console\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap().trim();
    let lines = block.lines().map(str::trim_start).map(|line| {
        let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("> "));
        command.unwrap_or_else(|| panic!("no command: {line}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs `commands` for this job and this group, with Kafka's own tool under its usual name.
async fn hand_over(job: &Job<'_>, group: &str, commands: &str) {
    let folder = job
        .env
        .folder()
        .join(format!("hand-over-{}", Uuid::new_v4().simple()));
    fs::create_dir_all(&folder).unwrap();
    let tool = folder.join("kafka-consumer-groups.sh");
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let classes = jars(Software::KAFKA).await.unwrap();
    let script = format!(
        "#!/bin/sh\nexec java -Xmx128m -cp '{}/*' {class} \"$@\"\n",
        classes.display()
    );
    fs::write(&tool, script).unwrap();
    let script = commands
        .replace("/path/of/the/checkpoint", &job.folder.display().to_string())
        .replace("kafka:9092", &job.env.bootstrap())
        .replace("--group streamer", &format!("--group {group}"))
        .replace("users_created", &job.env.topic);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let child = Program::new("bash")
        .args(["-euc", &format!("chmod +x {}; {script}", tool.display())])
        .env("PATH", path)
        .env("HOME", &folder)
        .log_to(folder.join("log"))
        .spawn()
        .unwrap();
    let status = child.wait(DEADLINE).await.unwrap();
    assert!(status.success(), "{script}\n{}", child.last_lines(20));
    println!("{script}\n{}", child.last_lines(20));
}

/// The statements that a refused start names.
fn alterations(log: &str) -> BTreeSet<String> {
    let named = log.split("ALTER TABLE ").skip(1).map(|rest| {
        let words: Vec<_> = rest.split([' ', ';', ',', '"', '\n']).take(4).collect();
        format!("ALTER TABLE {}", words.join(" "))
    });
    named.collect()
}

async fn write(env: &TestEnv, ids: &[Uuid], name: &str) {
    let versions: Vec<_> = ids.iter().map(|id| (*id, name)).collect();
    env.write(&versions).await;
}

/// Waits until all that is in the topic is checkpointed by `group`.
async fn reached(env: &TestEnv, group: &str) {
    let ends = env.kafka.ends(&env.topic).await.unwrap();
    eventually("the group is at the end", async || {
        let found = env.cassandra.checkpoints(group, &env.topic).await;
        let found = found.map_err(|error| error.to_string())?;
        let at: BTreeMap<_, _> = found.iter().map(|(p, it)| (*p, it.next_offset)).collect();
        if at == ends {
            Ok(())
        } else {
            Err(format!("{at:?} of {ends:?}"))
        }
    })
    .await;
}

/// What the streamer itself says of table and log.
async fn verify(options: &ServiceOptions) -> (Option<i32>, String) {
    run_command(options.clone(), "verify").await
}

/// The same, told without the streamer: every user's last record is its row, and beside these are only `others`.
async fn texts_are_the_log(env: &TestEnv, others: &BTreeMap<Uuid, UserRow>) {
    let mut wanted = expected(&env.kafka.read(&env.topic).await.unwrap());
    wanted.extend(others.clone());
    let found = env.users().await;
    assert_eq!(wanted.len(), found.len());
    for (id, row) in &found {
        for column in TEXT_COLUMNS {
            assert_eq!(row.get(column), wanted[id].get(column), "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn takeover_from_spark_job_and_back_loses_nothing() {
    let env = TestEnv::new("cut_over", 3).await;
    env.cassandra.run(KEYSPACE).await.unwrap();
    env.cassandra.run(TABLE).await.unwrap();
    let job = Job::new(&env);
    let ids = new_ids(150);
    write(&env, &ids, "v1").await;
    job.works_up_to(&env.kafka.ends(&env.topic).await.unwrap()).await;
    // Of times that Kafka has forgotten.
    for id in crate::support::commands::new_ids(5) {
        job.insert(&record(id, "old")).await;
    }
    let old: BTreeMap<_, _> = env
        .users()
        .await
        .into_iter()
        .filter(|(_, row)| row["email"] == "old@x")
        .collect();
    let old_stamps = env.cassandra.stamps().await.unwrap();

    // Look: what is missing is named with the statements that mend it.
    let trial = format!("{}.trial", env.topic);
    let beside = env.options().set("kafka.group", &trial).log_name("trial");
    let (code, log) = wait_for_exit(&Service::start(&beside).unwrap()).await;
    assert_eq!(code, Some(78), "{log}");
    let alterations = alterations(&log);
    assert_eq!(alterations.len(), 2, "{log}");
    for alteration in alterations {
        env.cassandra.run(&alteration).await.unwrap();
    }

    // Side by side, under a group for the trial.
    let mut streamer = env.start(&beside).await;
    let work = async {
        for _ in 0..3 {
            job.works_up_to(&env.kafka.ends(&env.topic).await.unwrap()).await;
        }
    };
    env.with_traffic_of(20, work).await;
    job.works_up_to(&env.kafka.ends(&env.topic).await.unwrap()).await;
    reached(&env, &trial).await;
    assert_eq!(verify(&beside).await.0, Some(0), "{}", verify(&beside).await.1);
    texts_are_the_log(&env, &old).await;

    // It is stopped while it is behind: what it wrote last is older than what the topic holds, and was written later.
    write(&env, &ids, "v2").await;
    let middle = env.kafka.ends(&env.topic).await.unwrap();
    write(&env, &ids, "v3").await;
    reached(&env, &trial).await;
    job.works_up_to(&middle).await;
    stop(&mut streamer).await;
    let (code, output) = verify(&beside).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&format!("different: {}", ids.len())), "{output}");

    // Cut over: the streamer goes on where the job stopped, and all that comes from there on wins.
    hand_over(&job, &env.topic, &commands()).await;
    let production = env.options().set("checkpoint.on_missing", "group");
    let mut streamer = env.start(&production).await;
    env.wait_until_caught_up().await;
    assert_eq!(
        metric(&streamer, "streamer_records_total", "").await,
        ids.len() as f64
    );
    assert_eq!(
        verify(&production).await.0,
        Some(0),
        "{}",
        verify(&production).await.1
    );
    texts_are_the_log(&env, &old).await;
    let stamps = env.cassandra.stamps().await.unwrap();
    assert!(
        old.keys().all(|id| stamps[id] == old_stamps[id]),
        "what only the job wrote stays"
    );
    write(&env, &ids, "v4").await;
    env.wait_until_caught_up().await;
    texts_are_the_log(&env, &old).await;

    // Go back: the job goes on where it stopped and writes again what came since.
    stop(&mut streamer).await;
    write(&env, &ids, "v5").await;
    let job = Job::new(&env);
    assert_eq!(job.offsets(), middle);
    job.works_up_to(&env.kafka.ends(&env.topic).await.unwrap()).await;
    texts_are_the_log(&env, &old).await;

    // And once more, under a group that has no checkpoints yet, from a time before what the job has not written.
    let time = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%3f")
        .to_string();
    write(&env, &ids, "v6").await;
    let again = format!("{}.again", env.topic);
    let from_time = format!("--topic users_created --to-datetime {time}");
    hand_over(
        &job,
        &again,
        &commands().replace("--from-file ~/offsets.csv", &from_time),
    )
    .await;
    let production = production.set("kafka.group", &again);
    let mut streamer = env.start(&production).await;
    reached(&env, &again).await;
    assert_eq!(
        metric(&streamer, "streamer_records_total", "").await,
        ids.len() as f64
    );
    assert_eq!(
        verify(&production).await.0,
        Some(0),
        "{}",
        verify(&production).await.1
    );
    texts_are_the_log(&env, &old).await;
    stop(&mut streamer).await;
}
