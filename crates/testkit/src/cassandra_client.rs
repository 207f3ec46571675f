//! A reader of the table and of the checkpoints, with a driver session of its own that no service shares.

use std::collections::BTreeMap;
use std::time::Duration;

use cdrs_tokio::Error as DriverError;
use cdrs_tokio::authenticators::StaticPasswordAuthenticatorProvider;
use cdrs_tokio::cluster::session::{Session, SessionBuilder as _, TcpSessionBuilder};
use cdrs_tokio::cluster::{NodeTcpConfigBuilder, TcpConnectionManager};
use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::load_balancing::RoundRobinLoadBalancingStrategy;
use cdrs_tokio::query::QueryParamsBuilder;
use cdrs_tokio::statement::StatementParamsBuilder;
use cdrs_tokio::transport::TransportTcp;
use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

type Driver = Session<
    TransportTcp,
    TcpConnectionManager,
    RoundRobinLoadBalancingStrategy<TransportTcp, TcpConnectionManager>,
>;

/// A user as the table has it: every column as text, instants in milliseconds since 1970.
pub type UserRow = BTreeMap<&'static str, String>;

/// A user with the write timestamp of each column that has a value, in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StampedRow {
    /// The columns.
    pub columns: UserRow,
    /// Their write timestamps.
    pub stamps: BTreeMap<&'static str, i64>,
}

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
pub enum CassandraClientError {
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
pub struct CassandraClient {
    driver: Driver,
    keyspace: String,
    consistency: Consistency,
}

const DEADLINE: Duration = Duration::from_secs(30);
/// For a session to come about.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
const PAGE: i32 = 5_000;

impl CassandraClient {
    /// Connects to `contact_points`; what is read lies in `keyspace`. A session that does not come about is tried anew:
    /// the driver's own attempts lie further and further apart.
    ///
    /// # Errors
    /// When no session comes about in time.
    pub async fn connect(
        contact_points: &[String],
        keyspace: impl Into<String>,
    ) -> Result<Self, CassandraClientError> {
        let until = Instant::now() + DEADLINE;
        let driver = loop {
            match session(contact_points).await {
                Err(_) if Instant::now() < until => sleep(PAUSE).await,
                outcome => break outcome?,
            }
        };
        Ok(Self {
            driver,
            keyspace: keyspace.into(),
            consistency: Consistency::One,
        })
    }

    /// The same connection, asking so many replicas that none misses what a majority has.
    #[must_use]
    pub fn by_quorum(self) -> Self {
        Self {
            consistency: Consistency::Quorum,
            ..self
        }
    }

    /// Runs a statement; `{ks}` in it stands for the keyspace.
    ///
    /// # Errors
    /// When it is refused or not answered in time.
    pub async fn run(&self, statement: &str) -> Result<Vec<Row>, CassandraClientError> {
        let statement = statement.replace("{ks}", &self.keyspace);
        let failed = |source| CassandraClientError::Driver {
            statement: statement.clone(),
            source: Box::new(source),
        };
        let parameters = StatementParamsBuilder::new()
            .with_consistency(self.consistency)
            .build();
        let reply = timeout(DEADLINE, self.driver.query_with_params(&statement, parameters))
            .await
            .map_err(|_| CassandraClientError::Silent {
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
    pub async fn count(&self) -> Result<i64, CassandraClientError> {
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
    pub async fn users(&self) -> Result<BTreeMap<Uuid, UserRow>, CassandraClientError> {
        let rows = self.all("SELECT * FROM {ks}.created_users").await?;
        Ok(rows
            .iter()
            .filter_map(|row| Some((row.by_name::<Uuid>("id").ok()??, user(row))))
            .collect())
    }

    /// Every user with the write timestamps of its columns, by id.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn stamped_users(&self) -> Result<BTreeMap<Uuid, StampedRow>, CassandraClientError> {
        let columns: Vec<_> = TEXT_COLUMNS
            .iter()
            .chain(&INSTANT_COLUMNS)
            .map(|column| format!("{column}, writetime({column}) AS stamp_{column}"))
            .collect();
        let statement = format!("SELECT id, {} FROM {{ks}}.created_users", columns.join(", "));
        let rows = self.all(&statement).await?;
        Ok(rows
            .iter()
            .filter_map(|row| Some((row.by_name::<Uuid>("id").ok()??, stamped(row))))
            .collect())
    }

    /// The write timestamp of every user's first name, by id: what tells which record a row is.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn stamps(&self) -> Result<BTreeMap<Uuid, i64>, CassandraClientError> {
        let rows = self
            .all("SELECT id, writetime(first_name) AS stamp FROM {ks}.created_users")
            .await?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                Some((
                    row.by_name::<Uuid>("id").ok()??,
                    row.by_name::<i64>("stamp").ok()??,
                ))
            })
            .collect())
    }

    /// Every row of a query of any length.
    async fn all(&self, statement: &str) -> Result<Vec<Row>, CassandraClientError> {
        let statement = statement.replace("{ks}", &self.keyspace);
        let failed = |source| CassandraClientError::Driver {
            statement: statement.clone(),
            source: Box::new(source),
        };
        let mut pager = self.driver.paged(PAGE);
        let parameters = QueryParamsBuilder::new()
            .with_consistency(self.consistency)
            .build();
        let mut pages = pager.query_with_params(&statement, parameters);
        let mut all = Vec::new();
        loop {
            let rows = timeout(DEADLINE, pages.next())
                .await
                .map_err(|_| CassandraClientError::Silent {
                    statement: statement.clone(),
                })?
                .map_err(failed)?;
            all.extend(rows);
            if !pages.has_more() {
                return Ok(all);
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
    ) -> Result<BTreeMap<i32, CheckpointRow>, CassandraClientError> {
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

async fn session(contact_points: &[String]) -> Result<Driver, CassandraClientError> {
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
        .map_err(|source| CassandraClientError::Driver {
            statement: statement(),
            source: Box::new(source),
        })?;
    let build = TcpSessionBuilder::new(RoundRobinLoadBalancingStrategy::new(), config).build();
    timeout(ATTEMPT, build)
        .await
        .map_err(|_| CassandraClientError::Silent {
            statement: statement(),
        })?
        .map_err(|error| CassandraClientError::Driver {
            statement: statement(),
            source: Box::new(DriverError::General(error.to_string())),
        })
}

/// The columns of a row.
pub fn user(row: &Row) -> UserRow {
    let texts = TEXT_COLUMNS
        .iter()
        .filter_map(|column| Some((*column, row.by_name::<String>(column).ok().flatten()?)));
    let instants = INSTANT_COLUMNS
        .iter()
        .filter_map(|column| Some((*column, row.by_name::<i64>(column).ok().flatten()?.to_string())));
    texts.chain(instants).collect()
}

fn stamped(row: &Row) -> StampedRow {
    let stamp = |column: &&'static str| {
        let stamp = row.by_name::<i64>(&format!("stamp_{column}")).ok()??;
        Some((*column, stamp))
    };
    StampedRow {
        columns: user(row),
        stamps: TEXT_COLUMNS
            .iter()
            .chain(&INSTANT_COLUMNS)
            .filter_map(stamp)
            .collect(),
    }
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
