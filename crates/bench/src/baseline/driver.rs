//! Driver baseline: writes rows from memory with the same Cassandra driver and does nothing else.
//!
//! It never retries. The first error ends it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cdrs_tokio::cluster::connection_pool::ConnectionPoolConfigBuilder;
use cdrs_tokio::cluster::session::{Session, SessionBuilder as _, TcpSessionBuilder};
use cdrs_tokio::cluster::{NodeTcpConfigBuilder, TcpConnectionManager};
use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::frame::Version;
use cdrs_tokio::frame::message_batch::BatchType;
use cdrs_tokio::load_balancing::TopologyAwareLoadBalancingStrategy;
use cdrs_tokio::query::{BatchQueryBuilder, PreparedQuery, QueryValues};
use cdrs_tokio::statement::StatementParamsBuilder;
use cdrs_tokio::transport::TransportTcp;
use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::value::Value;
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use thiserror::Error;
use tokio::time::timeout;
use uuid::Uuid;

use crate::usage::{Cost, own_cpu_seconds, peak_mib};
use testkit::cassandra_client::TEXT_COLUMNS;
use testkit::people::{Person, people};

/// Timeout for schema agreement.
const SCHEMA_AGREEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of the driver baseline.
#[derive(Debug, Clone, Args)]
pub struct DriverBaseline {
    /// `host:port` of a node
    #[arg(long)]
    pub contact_point: String,
    /// An existing keyspace; the table is created
    #[arg(long)]
    pub keyspace: String,
    /// Rows to write
    #[arg(long)]
    pub rows: u64,
    /// Statements in flight
    #[arg(long, default_value_t = 512)]
    pub max_in_flight: usize,
    /// Connections to each node
    #[arg(long, default_value_t = 2)]
    pub connections: usize,
    /// Rows in an unlogged batch; 1: single statements
    #[arg(long, default_value_t = 1)]
    pub batch_size: usize,
}

/// The driver baseline failed.
#[derive(Debug, Error)]
pub enum DriverBaselineError {
    /// The driver returned an error.
    #[error("failed to execute a statement")]
    Driver(#[from] cdrs_tokio::Error),
    /// The nodes did not reach schema agreement.
    #[error("no schema agreement within {} s", SCHEMA_AGREEMENT_TIMEOUT.as_secs())]
    NoSchemaAgreement,
    /// The session timed out.
    #[error("failed to connect to {0}")]
    Connect(String),
}

type Driver = Session<
    TransportTcp,
    TcpConnectionManager,
    TopologyAwareLoadBalancingStrategy<TransportTcp, TcpConnectionManager>,
>;

impl DriverBaseline {
    /// Writes the rows and returns the cost, without the time to connect.
    ///
    /// # Errors
    /// [`DriverBaselineError`]; a run with errors has no cost.
    pub async fn run(&self) -> Result<Cost, DriverBaselineError> {
        let driver = self.connect().await?;
        let Self { keyspace, rows, .. } = self;
        let columns = TEXT_COLUMNS.join(", ");
        let texts = TEXT_COLUMNS.map(|name| format!("{name} text")).join(", ");
        let table = format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.created_users (id uuid PRIMARY KEY, {texts}, dob timestamp, \
             registered_date timestamp, ingested_at timestamp)"
        );
        // The keyspace is as new as the table.
        wait_for_schema_agreement(&driver).await?;
        driver.query(table).await?;
        wait_for_schema_agreement(&driver).await?;
        let statement = format!(
            "INSERT INTO {keyspace}.created_users (id, {columns}, dob, registered_date, ingested_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
        );
        let prepared = driver.prepare(statement).await?;
        let memory: Vec<Person> = people(2, 0..*rows).collect();
        let (started, cpu) = (Instant::now(), own_cpu_seconds());
        stream::iter(memory.chunks(self.batch_size.max(1)))
            .map(|rows| write(&driver, &prepared, rows))
            .buffer_unordered(self.max_in_flight)
            .try_collect::<()>()
            .await?;
        Ok(Cost {
            rows: *rows,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: own_cpu_seconds() - cpu,
            peak_mib: peak_mib(std::process::id()).unwrap_or(0.0),
        })
    }

    async fn connect(&self) -> Result<Driver, DriverBaselineError> {
        let config = NodeTcpConfigBuilder::new()
            .with_contact_point(self.contact_point.as_str().into())
            .with_version(Version::V5)
            .build()
            .await?;
        let pool = ConnectionPoolConfigBuilder::new()
            .with_local_size(self.connections)
            .build();
        let build = TcpSessionBuilder::new(TopologyAwareLoadBalancingStrategy::new(None, false), config)
            .with_connection_pool_config(pool)
            .with_tcp_nodelay(true)
            .build();
        let none = || DriverBaselineError::Connect(self.contact_point.clone());
        timeout(Duration::from_secs(20), build)
            .await
            .map_err(|_| none())?
            .map_err(|_| none())
    }
}

/// Waits for schema agreement. A node that has not yet received a change still agrees on the old schema.
/// So it needs twice as many consecutive responses of one version as there are nodes.
async fn wait_for_schema_agreement(driver: &Driver) -> Result<(), DriverBaselineError> {
    let until = Instant::now() + SCHEMA_AGREEMENT_TIMEOUT;
    let mut agreeing = 0;
    loop {
        let mut versions = BTreeSet::new();
        let mut nodes = 0;
        for place in ["local", "peers"] {
            let reply = driver
                .query(format!("SELECT schema_version FROM system.{place}"))
                .await?;
            for row in reply.response_body()?.into_rows().unwrap_or_default() {
                let version: Uuid = row.r_by_name("schema_version")?;
                versions.insert(version);
                nodes += 1;
            }
        }
        agreeing = if versions.len() == 1 { agreeing + 1 } else { 0 };
        if agreeing >= 2 * nodes {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(DriverBaselineError::NoSchemaAgreement);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn write(driver: &Driver, prepared: &PreparedQuery, rows: &[Person]) -> Result<(), cdrs_tokio::Error> {
    if let [row] = rows {
        let parameters = StatementParamsBuilder::new()
            .with_consistency(Consistency::LocalQuorum)
            .with_values(QueryValues::SimpleValues(bind(row)))
            .idempotent(true)
            .build();
        return driver.exec_with_params(prepared, &parameters).await.map(drop);
    }
    let mut batch = BatchQueryBuilder::new()
        .with_batch_type(BatchType::Unlogged)
        .with_consistency(Consistency::LocalQuorum);
    for row in rows {
        batch = batch.add_query_prepared(prepared, QueryValues::SimpleValues(bind(row)));
    }
    driver.batch(batch.build()?).await.map(drop)
}

fn bind(person: &Person) -> Vec<Value> {
    let number = |number: i64| Value::Some(number.to_be_bytes().to_vec());
    let mut values = Vec::with_capacity(14);
    values.push(Value::Some(person.id.as_bytes().to_vec()));
    values.extend(
        person
            .texts
            .iter()
            .map(|text| Value::Some(text.as_bytes().to_vec())),
    );
    values.extend(
        [
            person.dob,
            person.registered,
            person.registered,
            1_700_000_000_000_000,
        ]
        .map(number),
    );
    values
}
