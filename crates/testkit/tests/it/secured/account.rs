//! A principal of Kafka and a role of Cassandra with exactly some rights of the operations manual.

use testkit::servers::{AclOperation, KafkaResource};
use testkit::service::ServiceOptions;
use testkit::workspace;

use super::env::{SecuredEnv, eventually};
use super::login::Login;

/// Password of each role of Cassandra.
const ROLE_PASSWORD: &str = "role-secret";

/// A row of the table of rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) service: String,
    pub(crate) server: String,
    pub(crate) right: String,
    pub(crate) on: String,
    pub(crate) needed_for: String,
    pub(crate) without: String,
}

/// Reads the table of rights of the operations manual.
pub(crate) fn documented() -> Vec<Right> {
    let manual = workspace::root().unwrap().join("docs/operations.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let (_, section) = manual.split_once("### Rights\n").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("|---"));
    rows.skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect();
            let [service, server, right, on, needed_for, without] = cells.try_into().unwrap();
            Right {
                service,
                server,
                right,
                on,
                needed_for,
                without,
            }
        })
        .collect()
}

/// The names of what the rights are on.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) topic: String,
    pub(crate) dead_letters: String,
    pub(crate) group: String,
    pub(crate) keyspace: String,
    pub(crate) table: String,
}

/// An account of a service on both servers.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) login: Login,
    pub(crate) names: Names,
    /// The role, which is the group as well.
    pub(crate) role: String,
}

impl Account {
    /// Creates a user and a role of this name without any right.
    pub(crate) async fn new(env: &SecuredEnv, name: &str) -> Self {
        let login = Login::scram(name);
        env.kafka.set_password(name, super::login::SECRET).await.unwrap();
        Self::with_login(env, name, login).await
    }

    /// Creates a role of this name without any right, for a client that logs in to Kafka with `login`.
    pub(crate) async fn with_login(env: &SecuredEnv, name: &str, login: Login) -> Self {
        let create = format!("CREATE ROLE {name} WITH PASSWORD = '{ROLE_PASSWORD}' AND LOGIN = true");
        env.table.run(&create).await.unwrap();
        Self {
            login,
            role: name.to_owned(),
            names: Names {
                topic: env.name.clone(),
                dead_letters: env.dead_letters(),
                group: name.to_owned(),
                keyspace: env.name.clone(),
                table: "created_users".to_owned(),
            },
        }
    }

    /// Grants rights on what exists.
    pub(crate) async fn grant<'a>(&self, env: &SecuredEnv, rights: impl IntoIterator<Item = &'a Right>) {
        let (kafka, cassandra): (Vec<_>, Vec<_>) =
            rights.into_iter().partition(|right| right.server == "Kafka");
        let acls: Vec<_> = kafka
            .into_iter()
            .map(|right| (operation(&right.right), self.resource(&right.on)))
            .collect();
        env.kafka.allow(&self.login.principal(), &acls).await.unwrap();
        for right in cassandra {
            let Names { keyspace, table, .. } = &self.names;
            let on = match &*right.on {
                "keyspace" => format!("KEYSPACE {keyspace}"),
                // Its creator has all rights on it.
                "created_users" if table != "created_users" => continue,
                name => format!("TABLE {keyspace}.{name}"),
            };
            let grant = format!("GRANT {} ON {on} TO {}", right.right, self.role);
            eventually("the right is granted", async || {
                let granted = env.table.run(&grant).await;
                granted.map(drop).map_err(|error| error.to_string())
            })
            .await;
        }
    }

    fn resource(&self, on: &str) -> KafkaResource {
        match on {
            "topic" => KafkaResource::Topic(self.names.topic.clone()),
            "dead-letter topic" => KafkaResource::Topic(self.names.dead_letters.clone()),
            "group" => KafkaResource::Group(self.names.group.clone()),
            other => panic!("unknown resource {other}"),
        }
    }

    /// The options of a service with this account. `log` names its log.
    pub(crate) fn options(&self, env: &SecuredEnv, service: &'static str, log: &str) -> ServiceOptions {
        let options = env.options(service, log).set("kafka.topic", &self.names.topic);
        let options = self.login.apply(env, options);
        if service != "streamer" {
            return options;
        }
        options
            .set("kafka.dead_letter_topic", &self.names.dead_letters)
            .set("kafka.group", &self.names.group)
            .set("cassandra.table", &self.names.table)
            .set("cassandra.username", &self.role)
            .set("cassandra.password", ROLE_PASSWORD)
    }
}

fn operation(name: &str) -> AclOperation {
    match name {
        "Read" => AclOperation::Read,
        "Write" => AclOperation::Write,
        "Create" => AclOperation::Create,
        other => panic!("unknown operation {other}"),
    }
}
