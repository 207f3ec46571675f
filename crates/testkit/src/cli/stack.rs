//! `testkit stack`: the servers without the services.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use futures::future::{OptionFuture, try_join};

use crate::servers::{
    CassandraCluster, CassandraOptions, DetachedStack, KafkaCluster, KafkaOptions, ServerError, StackShape,
    StackStatus,
};
use crate::workspace;

/// Operations on the servers.
#[derive(Debug, Subcommand)]
pub(super) enum StackCommand {
    /// Starts them and leaves them running.
    #[command(after_help = "Example: testkit stack up --kafka 3 --cassandra 3")]
    Up {
        #[command(flatten)]
        nodes: Nodes,
        #[command(flatten)]
        ports: Ports,
        #[command(flatten)]
        location: StackLocation,
    },
    /// Stops them.
    #[command(after_help = "Example: testkit stack down --wipe")]
    Down {
        /// Also removes their data.
        #[arg(long)]
        wipe: bool,
        #[command(flatten)]
        location: StackLocation,
    },
    /// Shows each node; exits with status 1 unless all serve.
    #[command(after_help = "Example: testkit stack status")]
    Status {
        #[command(flatten)]
        location: StackLocation,
    },
    /// Starts new ones on free ports, which end with this process and leave no data.
    #[command(after_help = "Example: testkit stack run --kafka 3 --cassandra 0")]
    Run {
        #[command(flatten)]
        nodes: Nodes,
    },
}

#[derive(Debug, Args)]
pub(super) struct Nodes {
    /// Kafka nodes; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    kafka: u8,
    /// Cassandra nodes; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    cassandra: u8,
}

#[derive(Debug, Args)]
pub(super) struct Ports {
    /// Port of the first Kafka node; the next nodes' follow (ports 1,000 and 2,000 above are used too).
    #[arg(long, value_name = "PORT", default_value_t = 9092, value_parser = clap::value_parser!(u16).range(1024..=63_000))]
    kafka_port: u16,
    /// Port of every Cassandra node (ports 2,000, 1,999 and 1,843 below are used too).
    #[arg(long, value_name = "PORT", default_value_t = 9042, value_parser = clap::value_parser!(u16).range(3024..))]
    cassandra_port: u16,
}

#[derive(Debug, Args)]
pub(super) struct StackLocation {
    /// Folder of data, configuration and logs [default: target/stack]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl StackCommand {
    pub(super) async fn run(self) -> Result<ExitCode, ServerError> {
        match self {
            Self::Up {
                nodes,
                ports,
                location,
            } => {
                let shape = StackShape {
                    kafka: nodes.kafka.into(),
                    cassandra: nodes.cassandra.into(),
                    kafka_port: ports.kafka_port,
                    cassandra_port: ports.cassandra_port,
                };
                println!("starting {shape}");
                let status = location.stack()?.up(shape).await?;
                report(&status);
                Ok(code(status.up))
            }
            Self::Down { wipe, location } => {
                let stack = location.stack()?;
                let status = stack.down().await?;
                if wipe {
                    stack.wipe()?;
                }
                report(&status);
                Ok(code(!status.up))
            }
            Self::Status { location } => {
                let status = location.stack()?.status().await?;
                report(&status);
                Ok(code(status.up))
            }
            Self::Run { nodes } => run_in_foreground(&nodes).await,
        }
    }
}

impl StackLocation {
    fn stack(self) -> Result<DetachedStack, ServerError> {
        let dir = match self.dir {
            Some(dir) => {
                std::path::absolute(&dir).map_err(|source| ServerError::File { path: dir, source })?
            }
            None => workspace::target_dir()?.join("stack"),
        };
        Ok(DetachedStack::at(dir))
    }
}

async fn run_in_foreground(nodes: &Nodes) -> Result<ExitCode, ServerError> {
    let kafka_options = KafkaOptions {
        nodes: nodes.kafka.into(),
        ..KafkaOptions::default()
    };
    let cassandra_options = CassandraOptions {
        nodes: nodes.cassandra.into(),
        ..CassandraOptions::default()
    };
    let kafka: OptionFuture<_> = (nodes.kafka > 0)
        .then(|| KafkaCluster::start(&kafka_options))
        .into();
    let cassandra: OptionFuture<_> = (nodes.cassandra > 0)
        .then(|| CassandraCluster::start(&cassandra_options))
        .into();
    let (kafka, cassandra) = try_join(async { kafka.await.transpose() }, async {
        cassandra.await.transpose()
    })
    .await?;
    print_json(&StackStatus {
        kafka: kafka.as_ref().map(KafkaCluster::bootstrap),
        cassandra: cassandra
            .as_ref()
            .map(|cluster| cluster.contact_points().join(",")),
        up: true,
        nodes: Vec::new(),
    });
    // Ends at once when the handler can't be installed.
    drop(tokio::signal::ctrl_c().await);
    Ok(ExitCode::SUCCESS)
}

fn report(status: &StackStatus) {
    for node in &status.nodes {
        let pid = node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let state = if node.ready { "up" } else { "down" };
        println!("{:<12} {state:<5} {:<16} pid {pid}", node.name, node.address);
    }
    print_json(status);
}

fn print_json(status: &StackStatus) {
    println!("{}", serde_json::json!(status));
}

fn code(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
