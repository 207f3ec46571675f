//! A Cassandra client that reads a record's table and the checkpoints, with its own driver session.

mod result;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cdrs_tokio::Error as DriverError;
use cdrs_tokio::authenticators::StaticPasswordAuthenticatorProvider;
use cdrs_tokio::cluster::session::{Session, SessionBuilder as _, TcpSessionBuilder};
use cdrs_tokio::cluster::{NodeTcpConfigBuilder, TcpConnectionManager};
use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::frame::message_error::ErrorType;
use cdrs_tokio::load_balancing::RoundRobinLoadBalancingStrategy;
use cdrs_tokio::retry::ConstantReconnectionPolicy;
use cdrs_tokio::statement::StatementParamsBuilder;
use cdrs_tokio::transport::TransportTcp;
use cdrs_tokio::types::rows::Row as DriverRow;
use cdrs_tokio::types::{ByName as _, CBytes};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use model::{Contract, Key};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use self::result::QueryResult;
use crate::rows::{INGESTED_AT, Row, RowId, Rows, StampedRow};

type Driver = Session<
    TransportTcp,
    TcpConnectionManager,
    RoundRobinLoadBalancingStrategy<TransportTcp, TcpConnectionManager>,
>;

/// A user's row: every non-null column except the id as text.
pub type UserRow = BTreeMap<String, String>;

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
    #[error("`{statement}` returned a row without a valid primary key")]
    PrimaryKey { statement: String },
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

/// A connection to one cluster, with the table of one record. By default it is that of users.
pub struct CassandraClient {
    driver: Driver,
    keyspace: String,
    table: String,
    contract: Arc<Contract>,
    consistency: Consistency,
}

const USERS_TABLE: &str = "created_users";
/// For a statement, and for a session with all its attempts.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For one attempt to open a session.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// The driver's own delay grows to a minute, so that a restarted node would be absent for so long.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);
const PAGE_SIZE: i32 = 5_000;

/// A busy server fails or times out reads of many rows.
const READ_RETRIES: u32 = 5;
const READ_DELAY: Duration = Duration::from_secs(1);

impl CassandraClientError {
    fn is_of_a_busy_server(&self) -> bool {
        let Self::Driver { source, .. } = self else {
            return false;
        };
        let cdrs_tokio::Error::Server { body, .. } = &**source else {
            return false;
        };
        matches!(body.ty, ErrorType::ReadFailure(_) | ErrorType::ReadTimeout(_))
    }
}

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
            table: USERS_TABLE.to_owned(),
            contract: Contract::user(),
            consistency: Consistency::One,
        })
    }

    /// Reads `table`, which has the records of this contract, from now on.
    #[must_use]
    pub fn for_record(self, contract: Arc<Contract>, table: impl Into<String>) -> Self {
        Self {
            contract,
            table: table.into(),
            ..self
        }
    }

    /// Reads at consistency `QUORUM` from now on.
    pub fn by_quorum(self) -> Self {
        Self {
            consistency: Consistency::Quorum,
            ..self
        }
    }

    /// Executes a statement, in which `{ks}` stands for the keyspace and `{table}` for the table with its keyspace.
    pub fn run(&self, statement: &str) -> BoxFuture<'_, Result<Vec<DriverRow>, CassandraClientError>> {
        Box::pin(self.execute(self.complete(statement)))
    }

    fn complete(&self, statement: &str) -> String {
        let table = format!("{}.{}", self.keyspace, self.table);
        statement
            .replace("{table}", &table)
            .replace("{ks}", &self.keyspace)
    }

    async fn execute(&self, statement: String) -> Result<Vec<DriverRow>, CassandraClientError> {
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

    /// Returns the number of rows.
    pub async fn count(&self) -> Result<i64, CassandraClientError> {
        let rows = self.run("SELECT COUNT(*) AS total FROM {table}").await?;
        Ok(rows
            .first()
            .and_then(|row| row.by_name("total").ok().flatten())
            .unwrap_or(0))
    }

    /// Returns every row with the bytes of every column of the table, by primary key.
    pub async fn rows(&self) -> Result<Rows, CassandraClientError> {
        self.rows_of("SELECT * FROM {table}").await
    }

    /// Returns the rows of a key.
    pub async fn rows_of_key(&self, key: &Key) -> Result<Rows, CassandraClientError> {
        let name = self.contract.fields()[self.contract.key()].name();
        let literal = match key {
            Key::Text(text) => format!("'{}'", text.replace('\'', "''")),
            key => key.to_string(),
        };
        self.rows_of(&format!("SELECT * FROM {{table}} WHERE \"{name}\" = {literal}"))
            .await
    }

    async fn rows_of(&self, statement: &str) -> Result<Rows, CassandraClientError> {
        let found = self.read(statement).await?;
        let rows = found.rows.into_iter().map(|row| {
            let row = result::named(&found.columns, row);
            Ok((self.row_id(statement, &row)?, row))
        });
        rows.collect()
    }

    /// Returns every row with the write timestamps of its columns, by primary key.
    pub async fn stamped_rows(&self) -> Result<BTreeMap<RowId, StampedRow>, CassandraClientError> {
        let (mut columns, regular) = self.columns().await?;
        let regular: Vec<_> = columns.split_off(regular);
        let quoted = columns.iter().chain(&regular).map(|name| format!("\"{name}\""));
        let stamps = regular.iter().map(|name| format!("writetime(\"{name}\")"));
        let selected: Vec<_> = quoted.chain(stamps).collect();
        let statement = format!("SELECT {} FROM {{table}}", selected.join(", "));
        let found = self.read(&statement).await?;
        let values = columns.len() + regular.len();
        let rows = found.rows.into_iter().map(|mut row| {
            let stamps = row.split_off(values);
            let stamps = regular
                .iter()
                .zip(stamps)
                .filter_map(|(name, stamp)| Some((name.clone(), bigint(&stamp?)?)))
                .collect();
            let columns = result::named(&found.columns, row);
            Ok((self.row_id(&statement, &columns)?, StampedRow { columns, stamps }))
        });
        rows.collect()
    }

    /// Returns the write timestamp of one column of every row, by primary key. It identifies the record of a row.
    pub async fn stamps(&self) -> Result<BTreeMap<RowId, i64>, CassandraClientError> {
        let fields = self.contract.fields();
        let key: Vec<_> = self.contract.primary_key().collect();
        let mut written = (0..fields.len()).filter(|slot| !key.contains(slot));
        // An optional field may be null, and an earlier table lacks the other column.
        let column = written
            .find(|slot| fields[*slot].is_required())
            .map_or(INGESTED_AT, |slot| fields[slot].name());
        let key: Vec<_> = key
            .iter()
            .map(|slot| format!("\"{}\"", fields[*slot].name()))
            .collect();
        let statement = format!(
            "SELECT {}, writetime(\"{column}\") FROM {{table}}",
            key.join(", ")
        );
        let found = self.read(&statement).await?;
        let mut stamps = BTreeMap::new();
        for mut row in found.rows {
            let stamp = row.pop().flatten();
            let id = self.row_id(&statement, &result::named(&found.columns, row))?;
            if let Some(stamp) = stamp.as_deref().and_then(bigint) {
                stamps.insert(id, stamp);
            }
        }
        Ok(stamps)
    }

    /// Returns every user, by id.
    pub async fn users(&self) -> Result<BTreeMap<Uuid, UserRow>, CassandraClientError> {
        let statement = "SELECT * FROM {table}";
        let found = self.read(statement).await?;
        let users = found.rows.into_iter().map(|row| {
            let mut texts = result::texts(&found.columns, row);
            let id = texts.remove("id").and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| CassandraClientError::PrimaryKey {
                statement: statement.to_owned(),
            })?;
            Ok((id, texts))
        });
        users.collect()
    }

    fn row_id(&self, statement: &str, row: &Row) -> Result<RowId, CassandraClientError> {
        RowId::of_row(&self.contract, row).ok_or_else(|| CassandraClientError::PrimaryKey {
            statement: statement.to_owned(),
        })
    }

    /// The columns of the table, those of the primary key first, and their number.
    async fn columns(&self) -> Result<(Vec<String>, usize), CassandraClientError> {
        let statement = format!(
            "SELECT column_name, kind FROM system_schema.columns WHERE keyspace_name = '{}' AND table_name = '{}'",
            self.keyspace, self.table
        );
        let rows = self.run(&statement).await?;
        let text = |row: &DriverRow, name| row.by_name::<String>(name).ok().flatten().unwrap_or_default();
        let (regular, key): (Vec<_>, Vec<_>) = rows.iter().partition(|row| text(row, "kind") == "regular");
        let names = key.iter().chain(&regular).map(|row| text(row, "column_name"));
        Ok((names.collect(), key.len()))
    }

    /// Reads every row of a query, page by page.
    fn read(&self, statement: &str) -> BoxFuture<'_, Result<QueryResult, CassandraClientError>> {
        let statement = self.complete(statement);
        Box::pin(async move {
            for _ in 0..READ_RETRIES {
                match self.pages(statement.clone()).await {
                    Err(error) if error.is_of_a_busy_server() => tokio::time::sleep(READ_DELAY).await,
                    result => return result,
                }
            }
            self.pages(statement).await
        })
    }

    async fn pages(&self, statement: String) -> Result<QueryResult, CassandraClientError> {
        let mut all = QueryResult::default();
        let mut next: Option<CBytes> = None;
        loop {
            let mut parameters = StatementParamsBuilder::new()
                .with_consistency(self.consistency)
                .with_page_size(PAGE_SIZE);
            if let Some(state) = next {
                parameters = parameters.with_paging_state(state);
            }
            let response = self.driver.query_with_params(&statement, parameters.build());
            let body = within(TIMEOUT, &statement, response)
                .await?
                .response_body()
                .map_err(|source| failed(&statement, source))?;
            next = all.add(body);
            if next.is_none() {
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
        let builder = TcpSessionBuilder::new(RoundRobinLoadBalancingStrategy::new(), config.await?)
            .with_reconnection_policy(Arc::new(ConstantReconnectionPolicy::new(RECONNECT_DELAY)));
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

fn bigint(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
}

fn checkpoint(row: &DriverRow) -> Option<CheckpointRow> {
    Some(CheckpointRow {
        next_offset: row.by_name("next_offset").ok()??,
        last_stamp: row.by_name("last_stamp").ok().flatten(),
        high_offset: row.by_name("high_offset").ok()??,
        epoch: row.by_name("epoch").ok()??,
        topic_id: row.by_name("topic_id").ok()??,
    })
}
