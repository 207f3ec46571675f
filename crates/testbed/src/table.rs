//! A reader of the table and of the checkpoints, with a driver session of its own that no service shares.

use std::collections::BTreeMap;
use std::time::Duration;

use cdrs_tokio::Error as DriverError;
use cdrs_tokio::authenticators::StaticPasswordAuthenticatorProvider;
use cdrs_tokio::cluster::session::{Session, SessionBuilder as _, TcpSessionBuilder};
use cdrs_tokio::cluster::{NodeTcpConfigBuilder, TcpConnectionManager};
use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::load_balancing::RoundRobinLoadBalancingStrategy;
use cdrs_tokio::statement::StatementParamsBuilder;
use cdrs_tokio::transport::TransportTcp;
use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use thiserror::Error;
use tokio::time::timeout;
use uuid::Uuid;

type Driver = Session<
    TransportTcp,
    TcpConnectionManager,
    RoundRobinLoadBalancingStrategy<TransportTcp, TcpConnectionManager>,
>;

/// A user as the table has it: every column as text, instants in milliseconds since 1970.
pub type UserRow = BTreeMap<&'static str, String>;

/// The text columns of the table.
pub const TEXT_COLUMNS: [&str; 9] = [
    "first_name",
    "last_name",
    "gender",
    "address",
    "post_code",
    "email",
    "username",
    "phone",
    "picture",
];
/// Its instants.
pub const INSTANT_COLUMNS: [&str; 3] = ["dob", "registered_date", "ingested_at"];

/// The table could not be read.
#[derive(Debug, Error)]
pub enum TableError {
    /// The driver's own error.
    #[error("{statement}")]
    Driver {
        /// What was asked.
        statement: String,
        /// The answer.
        #[source]
        source: Box<DriverError>,
    },
    /// No session, or no reply, in time.
    #[error("{statement}: no reply within {} s", DEADLINE.as_secs())]
    Silent {
        /// What was asked.
        statement: String,
    },
}

/// What the checkpoint of a partition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointRow {
    /// The next offset.
    pub next_offset: i64,
    /// The write timestamp of the last row before it.
    pub last_stamp: Option<i64>,
    /// The highest offset ever reached.
    pub high_offset: i64,
    /// The base of its write timestamps.
    pub epoch: i64,
    /// The topic's id.
    pub topic_id: Uuid,
}

/// A connection to one cluster.
pub struct Table {
    driver: Driver,
    keyspace: String,
}

const DEADLINE: Duration = Duration::from_secs(30);
const PAGE: i32 = 5_000;

impl Table {
    /// Connects to `contact_points`; what is read lies in `keyspace`.
    ///
    /// # Errors
    /// When no session comes about in time.
    pub async fn connect(contact_points: &[String], keyspace: impl Into<String>) -> Result<Self, TableError> {
        let statement = || "connect".to_owned();
        let config = NodeTcpConfigBuilder::new()
            .with_contact_points(contact_points.iter().map(|point| point.as_str().into()).collect())
            // A cluster without authentication does not ask for it.
            .with_authenticator_provider(std::sync::Arc::new(StaticPasswordAuthenticatorProvider::new(
                "cassandra",
                "cassandra",
            )))
            .build()
            .await
            .map_err(|source| TableError::Driver {
                statement: statement(),
                source: Box::new(source),
            })?;
        let build = TcpSessionBuilder::new(RoundRobinLoadBalancingStrategy::new(), config).build();
        let driver = timeout(DEADLINE, build)
            .await
            .map_err(|_| TableError::Silent {
                statement: statement(),
            })?
            .map_err(|error| TableError::Driver {
                statement: statement(),
                source: Box::new(DriverError::General(error.to_string())),
            })?;
        Ok(Self {
            driver,
            keyspace: keyspace.into(),
        })
    }

    /// Runs a statement; `{ks}` in it stands for the keyspace.
    ///
    /// # Errors
    /// When it is refused or not answered in time.
    pub async fn run(&self, statement: &str) -> Result<Vec<Row>, TableError> {
        let statement = statement.replace("{ks}", &self.keyspace);
        let failed = |source| TableError::Driver {
            statement: statement.clone(),
            source: Box::new(source),
        };
        let parameters = StatementParamsBuilder::new()
            .with_consistency(Consistency::One)
            .build();
        let reply = timeout(DEADLINE, self.driver.query_with_params(&statement, parameters))
            .await
            .map_err(|_| TableError::Silent {
                statement: statement.clone(),
            })?
            .map_err(failed)?;
        Ok(reply
            .response_body()
            .map_err(failed)?
            .into_rows()
            .unwrap_or_default())
    }

    /// How many users the table has.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn count(&self) -> Result<i64, TableError> {
        let rows = self
            .run("SELECT COUNT(*) AS users FROM {ks}.created_users")
            .await?;
        Ok(rows
            .first()
            .and_then(|row| row.by_name("users").ok().flatten())
            .unwrap_or(0))
    }

    /// Every user, by id.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn users(&self) -> Result<BTreeMap<Uuid, UserRow>, TableError> {
        let statement = format!("SELECT * FROM {}.created_users", self.keyspace);
        let failed = |source| TableError::Driver {
            statement: statement.clone(),
            source: Box::new(source),
        };
        let mut pager = self.driver.paged(PAGE);
        let mut pages = pager.query(&statement);
        let mut users = BTreeMap::new();
        loop {
            let rows = timeout(DEADLINE, pages.next())
                .await
                .map_err(|_| TableError::Silent {
                    statement: statement.clone(),
                })?
                .map_err(failed)?;
            users.extend(
                rows.iter()
                    .filter_map(|row| Some((row.by_name::<Uuid>("id").ok()??, user(row)))),
            );
            if !pages.has_more() {
                return Ok(users);
            }
        }
    }

    /// The checkpoints of `group` on `topic`, by partition.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn checkpoints(
        &self,
        group: &str,
        topic: &str,
    ) -> Result<BTreeMap<i32, CheckpointRow>, TableError> {
        let statement = format!(
            "SELECT * FROM {{ks}}.stream_checkpoints WHERE group_id = '{group}' AND topic = '{topic}'"
        );
        let rows = self.run(&statement).await?;
        Ok(rows
            .iter()
            .filter_map(|row| Some((row.by_name("partition").ok()??, checkpoint(row)?)))
            .collect())
    }
}

fn user(row: &Row) -> UserRow {
    let texts = TEXT_COLUMNS
        .iter()
        .filter_map(|column| Some((*column, row.by_name::<String>(column).ok().flatten()?)));
    let instants = INSTANT_COLUMNS
        .iter()
        .filter_map(|column| Some((*column, row.by_name::<i64>(column).ok().flatten()?.to_string())));
    texts.chain(instants).collect()
}

fn checkpoint(row: &Row) -> Option<CheckpointRow> {
    Some(CheckpointRow {
        next_offset: row.by_name("next_offset").ok()??,
        last_stamp: row.by_name("last_stamp").ok().flatten(),
        high_offset: row.by_name("high_offset").ok()??,
        epoch: row.by_name("epoch").ok()??,
        topic_id: row.by_name("topic_id").ok()??,
    })
}
