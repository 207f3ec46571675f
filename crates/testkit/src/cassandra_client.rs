//! A Cassandra client that reads the users' table and the checkpoints, with its own driver session.

use std::collections::BTreeMap;
use std::sync::Arc;
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
use futures::FutureExt as _;
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

type Driver = Session<
    TransportTcp,
    TcpConnectionManager,
    RoundRobinLoadBalancingStrategy<TransportTcp, TcpConnectionManager>,
>;

/// A user's row: every column as text, instants in milliseconds since 1970.
pub type UserRow = BTreeMap<&'static str, String>;

/// A user's row with the write timestamps of its non-null columns, in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StampedRow {
    /// The columns.
    pub columns: UserRow,
    /// Their write timestamps.
    pub stamps: BTreeMap<&'static str, i64>,
}

/// The table's text columns.
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
/// The table's instants.
pub const INSTANT_COLUMNS: [&str; 3] = ["dob", "registered_date", "ingested_at"];

/// Why a statement failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum CassandraClientError {
    #[error("failed to execute `{statement}`")]
    Driver {
        statement: String,
        source: Box<DriverError>,
    },
    #[error("no response to `{statement}` within {} s", TIMEOUT.as_secs())]
    Timeout { statement: String },
}

/// The checkpoint of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointRow {
    /// The next offset.
    pub next_offset: i64,
    /// The write timestamp of the last row before it.
    pub last_stamp: Option<i64>,
    /// The highest offset that was ever reached.
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

/// For a statement, and for a session with all its attempts.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For one attempt to open a session.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_DELAY: Duration = Duration::from_millis(250);
const PAGE_SIZE: i32 = 5_000;

impl CassandraClient {
    /// Opens a session on `keyspace`. Retries with new sessions, because the driver's own attempts back off without limit.
    pub async fn connect(
        contact_points: &[String],
        keyspace: impl Into<String>,
    ) -> Result<Self, CassandraClientError> {
        let until = Instant::now() + TIMEOUT;
        let driver = loop {
            match session(contact_points).boxed().await {
                Err(_) if Instant::now() < until => sleep(RETRY_DELAY).await,
                outcome => break outcome?,
            }
        };
        Ok(Self {
            driver,
            keyspace: keyspace.into(),
            consistency: Consistency::One,
        })
    }

    /// Reads at consistency `QUORUM` from now on.
    pub fn by_quorum(self) -> Self {
        Self {
            consistency: Consistency::Quorum,
            ..self
        }
    }

    /// Executes a statement, in which `{ks}` stands for the keyspace.
    pub fn run(&self, statement: &str) -> BoxFuture<'_, Result<Vec<Row>, CassandraClientError>> {
        let statement = statement.replace("{ks}", &self.keyspace);
        Box::pin(self.execute(statement))
    }

    async fn execute(&self, statement: String) -> Result<Vec<Row>, CassandraClientError> {
        let parameters = StatementParamsBuilder::new()
            .with_consistency(self.consistency)
            .build();
        let response = self.driver.query_with_params(&statement, parameters);
        let response = within(TIMEOUT, &statement, response).await?;
        let body = response
            .response_body()
            .map_err(|source| failed(&statement, source))?;
        Ok(body.into_rows().unwrap_or_default())
    }

    /// Returns the number of users.
    pub async fn count(&self) -> Result<i64, CassandraClientError> {
        let rows = self
            .run("SELECT COUNT(*) AS users FROM {ks}.created_users")
            .await?;
        Ok(rows
            .first()
            .and_then(|row| row.by_name("users").ok().flatten())
            .unwrap_or(0))
    }

    /// Returns every user, by id.
    pub async fn users(&self) -> Result<BTreeMap<Uuid, UserRow>, CassandraClientError> {
        let statement = "SELECT * FROM {ks}.created_users";
        self.by_id(statement, |row| Some(user(row))).await
    }

    /// Returns every user with the write timestamps of its columns, by id.
    pub async fn stamped_users(&self) -> Result<BTreeMap<Uuid, StampedRow>, CassandraClientError> {
        let columns: Vec<_> = TEXT_COLUMNS
            .iter()
            .chain(&INSTANT_COLUMNS)
            .map(|column| format!("{column}, writetime({column}) AS stamp_{column}"))
            .collect();
        let statement = format!("SELECT id, {} FROM {{ks}}.created_users", columns.join(", "));
        self.by_id(&statement, |row| Some(stamped(row))).await
    }

    /// Returns the write timestamp of every user's first name, by id. It identifies the record of a row.
    pub async fn stamps(&self) -> Result<BTreeMap<Uuid, i64>, CassandraClientError> {
        let statement = "SELECT id, writetime(first_name) AS stamp FROM {ks}.created_users";
        self.by_id(statement, |row| row.by_name("stamp").ok()?).await
    }

    async fn by_id<T>(
        &self,
        statement: &str,
        parse: impl Fn(&Row) -> Option<T>,
    ) -> Result<BTreeMap<Uuid, T>, CassandraClientError> {
        let rows = self.all(statement).await?;
        let rows = rows
            .iter()
            .map(|row| Some((row.by_name::<Uuid>("id").ok()??, parse(row)?)));
        Ok(rows.flatten().collect())
    }

    /// Returns every row of a query, page by page.
    fn all(&self, statement: &str) -> BoxFuture<'_, Result<Vec<Row>, CassandraClientError>> {
        let statement = statement.replace("{ks}", &self.keyspace);
        Box::pin(self.pages(statement))
    }

    async fn pages(&self, statement: String) -> Result<Vec<Row>, CassandraClientError> {
        let mut pager = self.driver.paged(PAGE_SIZE);
        let parameters = QueryParamsBuilder::new()
            .with_consistency(self.consistency)
            .build();
        let mut pages = pager.query_with_params(&statement, parameters);
        let mut all = Vec::new();
        loop {
            all.extend(within(TIMEOUT, &statement, pages.next()).await?);
            if !pages.has_more() {
                return Ok(all);
            }
        }
    }

    /// Returns the checkpoints of `group` on `topic`, by partition.
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
    let points = contact_points.iter().map(|point| point.as_str().into());
    // A cluster without authentication ignores the credentials.
    let login = StaticPasswordAuthenticatorProvider::new("cassandra", "cassandra");
    let config = NodeTcpConfigBuilder::new()
        .with_contact_points(points.collect())
        .with_authenticator_provider(Arc::new(login))
        .build();
    let connect = async {
        let builder = TcpSessionBuilder::new(RoundRobinLoadBalancingStrategy::new(), config.await?);
        let session = builder.build().await;
        session.map_err(|error| DriverError::General(error.to_string()))
    };
    within(SESSION_TIMEOUT, "connect", connect).await
}

async fn within<T>(
    limit: Duration,
    statement: &str,
    response: impl Future<Output = Result<T, DriverError>>,
) -> Result<T, CassandraClientError> {
    let silent = |_| CassandraClientError::Timeout {
        statement: statement.to_owned(),
    };
    let response = timeout(limit, response).await.map_err(silent)?;
    response.map_err(|source| failed(statement, source))
}

fn failed(statement: &str, source: DriverError) -> CassandraClientError {
    CassandraClientError::Driver {
        statement: statement.to_owned(),
        source: Box::new(source),
    }
}

/// Reads the non-null columns of a row.
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
