//! The takeover from the Spark job of the original pipeline by the operations manual, and the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use model::Contract;
use serde_json::{Value, json};
use testkit::comparison::expected;
use testkit::people::text_columns;
use testkit::process::Program;
use testkit::rows::Rows;
use testkit::servers::{Software, jars};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;
use uuid::Uuid;

use crate::support::commands::{new_ids, run_command, stop};
use crate::support::test_env::{DEADLINE, TestEnv, eventually, record};
use crate::support::traffic::{metric, wait_for_exit};

const KEYSPACE: &str =
    "CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
/// The table as the original creates it.
const TABLE: &str = "CREATE TABLE {ks}.created_users (id UUID PRIMARY KEY, first_name TEXT, last_name TEXT, gender TEXT, \
                     address TEXT, post_code TEXT, email TEXT, username TEXT, registered_date TEXT, phone TEXT, picture TEXT)";
/// The columns that the Spark job writes, without the id.
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

/// Imitates the Spark job: micro-batches of plain inserts with the time of the write. Its offsets are in its own files,
/// not in Kafka.
struct SparkJob<'a> {
    env: &'a TestEnv,
    folder: PathBuf,
}

impl<'a> SparkJob<'a> {
    fn new(env: &'a TestEnv) -> Self {
        let folder = env.folder().join("checkpoint");
        for part in ["offsets", "commits"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        Self { env, folder }
    }

    /// Returns the number of the latest complete batch.
    fn batch(&self) -> Option<u64> {
        let commits = fs::read_dir(self.folder.join("commits")).unwrap();
        let names = commits.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| name.parse().unwrap()).max()
    }

    /// Returns the offsets of the latest complete batch.
    fn offsets(&self) -> BTreeMap<i32, i64> {
        let Some(batch) = self.batch() else {
            return BTreeMap::new();
        };
        let log = fs::read_to_string(self.folder.join(format!("offsets/{batch}"))).unwrap();
        let mut offsets: BTreeMap<String, BTreeMap<i32, i64>> =
            serde_json::from_str(log.lines().last().unwrap()).unwrap();
        offsets.remove(&self.env.topic).unwrap()
    }

    /// Writes a micro-batch of the records up to `end`.
    async fn write_batch_up_to(&self, end: &BTreeMap<i32, i64>) {
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

/// Returns the takeover commands of the operations manual.
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
        command.unwrap_or_else(|| panic!("not a command: {line}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs `commands` for this job and this group, with Kafka's command-line tool in the path.
async fn run_takeover(job: &SparkJob<'_>, group: &str, commands: &str) {
    let folder = job
        .env
        .folder()
        .join(format!("takeover-{}", Uuid::new_v4().simple()));
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

/// Returns the statements in the log of a rejected start.
fn alterations(log: &str) -> BTreeSet<String> {
    let statements = log.split("ALTER TABLE ").skip(1).map(|rest| {
        let words: Vec<_> = rest.split([' ', ';', ',', '\n']).take(4).collect();
        format!("ALTER TABLE {}", words.join(" "))
    });
    statements.collect()
}

/// Writes a version of each user.
async fn write_versions(env: &TestEnv, ids: &[Uuid], name: &str) {
    let versions: Vec<_> = ids.iter().map(|id| (*id, name)).collect();
    env.write(&versions).await;
}

/// Waits until the checkpoints of `group` are the end offsets.
async fn wait_for_group(env: &TestEnv, group: &str) {
    let ends = env.kafka.end_offsets(&env.topic).await.unwrap();
    eventually("the checkpoints of the group are the end offsets", async || {
        let found = env.cassandra.checkpoints(group, &env.topic).await;
        let found = found.map_err(|error| error.to_string())?;
        let next: BTreeMap<_, _> = found.iter().map(|(p, it)| (*p, it.next_offset)).collect();
        if next == ends {
            Ok(())
        } else {
            Err(format!("{next:?} of {ends:?}"))
        }
    })
    .await;
}

/// Compares table and topic with the streamer's own command.
async fn verify(options: &ServiceOptions) -> (Option<i32>, String) {
    run_command(options.clone(), "verify").await
}

/// Compares table and topic without the streamer: each row is its user's last record, or one of `others`.
async fn assert_text_columns_match_topic(env: &TestEnv, others: &Rows) {
    let log = env.kafka.read(&env.topic).await.unwrap();
    let mut expected_rows = expected(&Contract::user(), &log);
    expected_rows.extend(others.clone());
    let found = env.cassandra.rows().await.unwrap();
    assert_eq!(expected_rows.len(), found.len());
    for (id, row) in &found {
        for column in text_columns() {
            assert_eq!(row.get(&column), expected_rows[id].get(&column), "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn takeover_from_spark_job_and_back_loses_nothing() {
    let env = TestEnv::new("takeover", 3).await;
    env.cassandra.run(KEYSPACE).await.unwrap();
    env.cassandra.run(TABLE).await.unwrap();
    let job = SparkJob::new(&env);
    let ids = new_ids(150);
    write_versions(&env, &ids, "v1").await;
    job.write_batch_up_to(&env.kafka.end_offsets(&env.topic).await.unwrap())
        .await;
    // Rows whose records are deleted from the topic.
    for id in crate::support::commands::new_ids(5) {
        job.insert(&record(id, "old")).await;
    }
    let rows = env.cassandra.rows().await.unwrap();
    let old: Rows = rows
        .into_iter()
        .filter(|(_, row)| row["email"] == b"old@x")
        .collect();
    let old_timestamps = env.cassandra.stamps().await.unwrap();

    // The first start names the missing columns with their statements.
    let trial = format!("{}.trial", env.topic);
    let trial_options = env.options().set("kafka.group", &trial).log_name("trial");
    let (code, log) = wait_for_exit(&Service::start(&trial_options).unwrap()).await;
    assert_eq!(code, Some(78), "{log}");
    let alterations = alterations(&log);
    assert_eq!(alterations.len(), 2, "{log}");
    for alteration in alterations {
        env.cassandra.run(&alteration).await.unwrap();
    }

    // Both run in parallel, the streamer in a trial group.
    let mut streamer = env.start(&trial_options).await;
    let work = async {
        for _ in 0..3 {
            job.write_batch_up_to(&env.kafka.end_offsets(&env.topic).await.unwrap())
                .await;
        }
    };
    env.with_traffic_of(20, work).await;
    job.write_batch_up_to(&env.kafka.end_offsets(&env.topic).await.unwrap())
        .await;
    wait_for_group(&env, &trial).await;
    assert_eq!(
        verify(&trial_options).await.0,
        Some(0),
        "{}",
        verify(&trial_options).await.1
    );
    assert_text_columns_match_topic(&env, &old).await;

    // The job stops with a lag. Its last rows have older versions and newer write timestamps than the streamer's.
    write_versions(&env, &ids, "v2").await;
    let middle = env.kafka.end_offsets(&env.topic).await.unwrap();
    write_versions(&env, &ids, "v3").await;
    wait_for_group(&env, &trial).await;
    job.write_batch_up_to(&middle).await;
    stop(&mut streamer).await;
    let (code, output) = verify(&trial_options).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&format!("different: {}", ids.len())), "{output}");

    // The streamer continues where the job stopped, and all records from there on win.
    run_takeover(&job, &env.topic, &commands()).await;
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
    assert_text_columns_match_topic(&env, &old).await;
    let timestamps = env.cassandra.stamps().await.unwrap();
    assert!(
        old.keys().all(|id| timestamps[id] == old_timestamps[id]),
        "rows without records in the topic changed"
    );
    write_versions(&env, &ids, "v4").await;
    env.wait_until_caught_up().await;
    assert_text_columns_match_topic(&env, &old).await;

    // The way back: the job continues where it stopped, and writes the later records again.
    stop(&mut streamer).await;
    write_versions(&env, &ids, "v5").await;
    let job = SparkJob::new(&env);
    assert_eq!(job.offsets(), middle);
    job.write_batch_up_to(&env.kafka.end_offsets(&env.topic).await.unwrap())
        .await;
    assert_text_columns_match_topic(&env, &old).await;

    // A second takeover, with a group without checkpoints, from a time before the job's first missing record.
    let time = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%3f")
        .to_string();
    write_versions(&env, &ids, "v6").await;
    let second_group = format!("{}.again", env.topic);
    let from_time = format!("--topic users_created --to-datetime {time}");
    run_takeover(
        &job,
        &second_group,
        &commands().replace("--from-file ~/offsets.csv", &from_time),
    )
    .await;
    let production = production.set("kafka.group", &second_group);
    let mut streamer = env.start(&production).await;
    wait_for_group(&env, &second_group).await;
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
    assert_text_columns_match_topic(&env, &old).await;
    stop(&mut streamer).await;
}
