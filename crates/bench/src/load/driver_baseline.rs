//! The driver baseline: writes rows from memory with the streamer's driver and does nothing else. It never retries; an
//! error ends it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
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
use model::{Contract, Scalar};
use testkit::people::{Person, people};
use testkit::process::usage::peak_mib;
use testkit::rows::INGESTED_AT;
use tokio::time::timeout;
use uuid::Uuid;

use crate::measure::cost::{Cost, own_cpu_seconds};
use crate::sinks::target::{TABLE, create_table};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const SCHEMA_AGREEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of the loop.
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

type Driver = Session<
    TransportTcp,
    TcpConnectionManager,
    TopologyAwareLoadBalancingStrategy<TransportTcp, TcpConnectionManager>,
>;

impl DriverBaseline {
    /// Writes the rows and returns the cost, without connecting.
    pub async fn run(&self) -> Result<Cost> {
        let driver = self.connect().await?;
        let Self { keyspace, rows, .. } = self;
        // The keyspace is new, too.
        wait_for_schema_agreement(&driver).await?;
        driver
            .query(create_table(keyspace))
            .await
            .context("failed to create the table")?;
        wait_for_schema_agreement(&driver).await?;
        let contract = Contract::user();
        let columns: String = contract
            .fields()
            .iter()
            .map(|field| format!("\"{}\", ", field.name()))
            .collect();
        let markers = "?, ".repeat(contract.fields().len());
        let statement = format!(
            "INSERT INTO {keyspace}.{TABLE} ({columns}{INGESTED_AT}) VALUES ({markers}?) USING TIMESTAMP ?"
        );
        let prepared = driver
            .prepare(statement)
            .await
            .context("failed to prepare the statement")?;
        let users: Vec<Person> = people(2, 0..*rows).collect();
        let (started, cpu) = (Instant::now(), own_cpu_seconds());
        stream::iter(users.chunks(self.batch_size.max(1)))
            .map(|rows| write(&driver, &prepared, rows))
            .buffer_unordered(self.max_in_flight)
            .try_collect::<()>()
            .await
            .context("failed to write rows")?;
        Ok(Cost {
            rows: *rows,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: own_cpu_seconds() - cpu,
            peak_mib: peak_mib(std::process::id()).unwrap_or(0.0),
        })
    }

    async fn connect(&self) -> Result<Driver> {
        let failed = || format!("failed to connect to {}", self.contact_point);
        let config = NodeTcpConfigBuilder::new()
            .with_contact_point(self.contact_point.as_str().into())
            .with_version(Version::V5)
            .build()
            .await
            .with_context(failed)?;
        let pool = ConnectionPoolConfigBuilder::new()
            .with_local_size(self.connections)
            .build();
        let build = TcpSessionBuilder::new(TopologyAwareLoadBalancingStrategy::new(None, false), config)
            .with_connection_pool_config(pool)
            .with_tcp_nodelay(true)
            .build();
        timeout(CONNECT_TIMEOUT, build)
            .await
            .with_context(failed)?
            .with_context(failed)
    }
}

/// Waits until all nodes have the same schema. A node that has not received a change yet still agrees on the old schema.
/// So the versions must agree twice as many times in a row as there are nodes.
async fn wait_for_schema_agreement(driver: &Driver) -> Result<()> {
    let until = Instant::now() + SCHEMA_AGREEMENT_TIMEOUT;
    let mut agreeing = 0;
    loop {
        let mut versions = BTreeSet::new();
        let mut nodes = 0;
        for table in ["local", "peers"] {
            let response = driver
                .query(format!("SELECT schema_version FROM system.{table}"))
                .await
                .context("failed to read the schema version")?;
            for row in response.response_body()?.into_rows().unwrap_or_default() {
                let version: Uuid = row.r_by_name("schema_version")?;
                versions.insert(version);
                nodes += 1;
            }
        }
        agreeing = if versions.len() == 1 { agreeing + 1 } else { 0 };
        if agreeing >= 2 * nodes {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the nodes disagree on the schema");
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

/// The row's values in the contract's order, `ingested_at`, and the write timestamp.
fn bind(person: &Person) -> Vec<Value> {
    let number = |number: i64| Value::Some(number.to_be_bytes().to_vec());
    let (mut texts, mut instants) = (person.texts.iter(), person.instants.iter());
    let contract = Contract::user();
    let fields = contract.fields().iter().map(|field| {
        let value = match field.scalar() {
            Scalar::Uuid => Some(Value::Some(person.id.as_bytes().to_vec())),
            Scalar::Timestamp => instants.next().map(|millis| number(*millis)),
            _ => texts.next().map(|text| Value::Some(text.as_bytes().to_vec())),
        };
        value.unwrap_or(Value::Null)
    });
    let [_, ingested_at] = person.instants;
    fields
        .chain([ingested_at, 1_700_000_000_000_000].map(number))
        .collect()
}
