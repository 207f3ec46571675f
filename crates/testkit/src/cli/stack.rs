//! `testkit stack`: the real servers alone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use futures::future::{OptionFuture, try_join};

use crate::servers::{
    CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, ServerError, StandingShape,
    StandingStack, StandingState,
};
use crate::workspace;

/// What to do with the servers.
#[derive(Debug, Subcommand)]
pub(super) enum StackCommand {
    /// Starts them; they run on afterwards.
    Up {
        #[command(flatten)]
        nodes: Nodes,
        #[command(flatten)]
        ports: Ports,
        #[command(flatten)]
        place: Place,
    },
    /// Stops them.
    Down {
        /// Removes their data too.
        #[arg(long)]
        wipe: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Shows each node; ends with status 1 unless all serve.
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Starts fresh ones on free ports that end, and vanish, with this process: on Ctrl-C or however it dies.
    Run {
        #[command(flatten)]
        nodes: Nodes,
    },
}

#[derive(Debug, Args)]
pub(super) struct Nodes {
    /// Kafka nodes; 0 leaves Kafka out.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    kafka: u8,
    /// Cassandra nodes; 0 leaves Cassandra out.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    cassandra: u8,
}

#[derive(Debug, Args)]
pub(super) struct Ports {
    /// Port of the first Kafka node; the others follow (and those 1,000 and 2,000 above are taken too).
    #[arg(long, value_name = "PORT", default_value_t = 9092, value_parser = clap::value_parser!(u16).range(1024..=63_000))]
    kafka_port: u16,
    /// Port of every Cassandra node (and those 2,000 and 1,999 below are taken too).
    #[arg(long, value_name = "PORT", default_value_t = 9042, value_parser = clap::value_parser!(u16).range(3024..))]
    cassandra_port: u16,
}

#[derive(Debug, Args)]
pub(super) struct Place {
    /// Folder of data, configuration and logs [default: target/stack]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl StackCommand {
    pub(super) async fn run(self) -> Result<ExitCode, ServerError> {
        match self {
            Self::Up { nodes, ports, place } => {
                let shape = StandingShape {
                    kafka: nodes.kafka.into(),
                    cassandra: nodes.cassandra.into(),
                    kafka_port: ports.kafka_port,
                    cassandra_port: ports.cassandra_port,
                };
                println!("starting {shape}");
                let state = place.stack()?.up(shape).await?;
                report(&state);
                Ok(code(state.up))
            }
            Self::Down { wipe, place } => {
                let stack = place.stack()?;
                let state = stack.down().await?;
                if wipe {
                    stack.wipe()?;
                }
                report(&state);
                Ok(code(!state.up))
            }
            Self::Status { place } => {
                let state = place.stack()?.status().await?;
                report(&state);
                Ok(code(state.up))
            }
            Self::Run { nodes } => run_in_foreground(&nodes).await,
        }
    }
}

impl Place {
    fn stack(self) -> Result<StandingStack, ServerError> {
        let dir = match self.dir {
            Some(dir) => {
                std::path::absolute(&dir).map_err(|source| ServerError::File { path: dir, source })?
            }
            None => workspace::target_dir()?.join("stack"),
        };
        Ok(StandingStack::at(dir))
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
    print_json(&StandingState {
        kafka: kafka.as_ref().map(KafkaCluster::bootstrap),
        cassandra: cassandra
            .as_ref()
            .map(|cluster| cluster.contact_points().join(",")),
        up: true,
        nodes: Vec::new(),
    });
    // Should the handler not be installable, running on would leave no way to end in good order.
    drop(tokio::signal::ctrl_c().await);
    Ok(ExitCode::SUCCESS)
}

fn report(state: &StandingState) {
    for node in &state.nodes {
        let pid = node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let word = if node.ready { "up" } else { "down" };
        println!("{:<12} {word:<5} {:<16} pid {pid}", node.name, node.address);
    }
    print_json(state);
}

/// The state holds only texts and a truth value, so serializing cannot fail.
fn print_json(state: &StandingState) {
    println!("{}", serde_json::json!(state));
}

fn code(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
