//! A stack that outlives the process that started it: `scripts/stack`.
//!
//! Its folder holds the shape it was started with, each node's data, and each node's process id. A process is
//! taken for ours only when its command line names the node's folder.

use std::fs;
use std::path::PathBuf;

use futures::future::{join_all, try_join, try_join_all};
use serde::{Deserialize, Serialize};

use super::artifacts::folder_of;
use super::{
    CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, Node, ServerError, Software, jars,
};
use crate::process::{Lifetime, ProcessError};

/// How many nodes, and on which ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingShape {
    /// Kafka nodes, 0 to 3.
    pub kafka: usize,
    /// Cassandra nodes, 0 to 3.
    pub cassandra: usize,
    /// See [`KafkaOptions::first_port`].
    pub kafka_port: u16,
    /// See [`CassandraOptions::port`].
    pub cassandra_port: u16,
}

/// What one node does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Its name, such as `kafka-1`.
    pub name: String,
    /// Where clients find it.
    pub address: String,
    /// Its process id, when a process runs.
    pub pid: Option<u32>,
    /// Whether it serves.
    pub ready: bool,
}

/// What the stack does now; its serialized form is the last line of `scripts/stack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandingState {
    /// Kafka's addresses, when it is part of the stack.
    pub kafka: Option<String>,
    /// Cassandra's addresses, when it is part of the stack.
    pub cassandra: Option<String>,
    /// Whether there is a stack and all of its nodes serve.
    pub up: bool,
    /// Each node.
    #[serde(skip)]
    pub nodes: Vec<NodeState>,
}

/// The stack in one folder, running or not.
#[derive(Debug, Clone)]
pub struct StandingStack {
    dir: PathBuf,
}

/// The clusters of a shape.
#[derive(Debug, Default)]
struct Clusters {
    kafka: Option<KafkaCluster>,
    cassandra: Option<CassandraCluster>,
}

impl StandingStack {
    /// The stack whose data lies in `dir`, which need not exist yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Starts what does not run yet, on the data that is there, and waits until all serves.
    ///
    /// # Errors
    /// When a stack of another shape lies in the folder, or a node does not come up; the nodes that did run on.
    pub async fn up(&self, shape: StandingShape) -> Result<StandingState, ServerError> {
        self.claim(shape)?;
        let clusters = self.describe(shape)?;
        let kafka = async {
            match &clusters.kafka {
                Some(cluster) => cluster.launch(&jars(Software::KAFKA).await?).await,
                None => Ok(()),
            }
        };
        let cassandra = async {
            match &clusters.cassandra {
                Some(cluster) => {
                    jars(Software::CASSANDRA).await?;
                    cluster.launch().await
                }
                None => Ok(()),
            }
        };
        try_join(kafka, cassandra).await?;
        Ok(clusters.state().await)
    }

    /// Whether each node runs and serves.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn status(&self) -> Result<StandingState, ServerError> {
        Ok(self.clusters()?.state().await)
    }

    /// Stops every node that runs, in good order where it can, and keeps the data.
    ///
    /// # Errors
    /// When a node does not end.
    pub async fn down(&self) -> Result<StandingState, ServerError> {
        let clusters = self.clusters()?;
        try_join_all(clusters.nodes().map(end)).await?;
        Ok(clusters.state().await)
    }

    /// Removes the data. For a stack that is down.
    ///
    /// # Errors
    /// When the folder cannot be removed.
    pub fn wipe(&self) -> Result<(), ServerError> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ServerError::File {
                path: self.dir.clone(),
                source: error,
            }),
            _ => Ok(()),
        }
    }

    /// Writes the shape down, or refuses when another one is.
    fn claim(&self, shape: StandingShape) -> Result<(), ServerError> {
        match self.shape()? {
            Some(found) if found == shape => Ok(()),
            Some(found) => Err(ServerError::OtherStack {
                dir: self.dir.clone(),
                found: found.to_string(),
                asked: shape.to_string(),
            }),
            None => {
                fs::create_dir_all(&self.dir).map_err(ServerError::file(&self.dir))?;
                let path = self.shape_path();
                let text = serde_json::to_string(&shape).map_err(|error| ServerError::File {
                    path: path.clone(),
                    source: error.into(),
                })?;
                fs::write(&path, text).map_err(ServerError::file(&path))
            }
        }
    }

    fn shape(&self) -> Result<Option<StandingShape>, ServerError> {
        let path = self.shape_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ServerError::File { path, source }),
        };
        let shape = serde_json::from_str(&text);
        shape.map(Some).map_err(|error| ServerError::File {
            path,
            source: error.into(),
        })
    }

    fn shape_path(&self) -> PathBuf {
        self.dir.join("stack.json")
    }

    fn clusters(&self) -> Result<Clusters, ServerError> {
        self.shape()?
            .map_or_else(|| Ok(Clusters::default()), |shape| self.describe(shape))
    }

    fn describe(&self, shape: StandingShape) -> Result<Clusters, ServerError> {
        let kafka = KafkaOptions {
            nodes: shape.kafka,
            dir: Some(self.dir.clone()),
            first_port: Some(shape.kafka_port),
            lifetime: Lifetime::Detached,
            ..KafkaOptions::default()
        };
        let cassandra = CassandraOptions {
            nodes: shape.cassandra,
            dir: Some(self.dir.clone()),
            port: Some(shape.cassandra_port),
            lifetime: Lifetime::Detached,
            ..CassandraOptions::default()
        };
        let with_kafka = || KafkaCluster::describe(&kafka, &folder_of(Software::KAFKA)?);
        let with_cassandra = || CassandraCluster::describe(&cassandra, &folder_of(Software::CASSANDRA)?);
        Ok(Clusters {
            kafka: (shape.kafka > 0).then(with_kafka).transpose()?,
            cassandra: (shape.cassandra > 0).then(with_cassandra).transpose()?,
        })
    }
}

impl Clusters {
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        let kafka = self.kafka.iter().flat_map(KafkaCluster::nodes);
        kafka.chain(self.cassandra.iter().flat_map(CassandraCluster::nodes))
    }

    async fn state(&self) -> StandingState {
        let nodes = join_all(self.nodes().map(node_state)).await;
        StandingState {
            kafka: self.kafka.as_ref().map(KafkaCluster::bootstrap),
            cassandra: self
                .cassandra
                .as_ref()
                .map(|cluster| cluster.contact_points().join(",")),
            up: !nodes.is_empty() && nodes.iter().all(|node| node.ready),
            nodes,
        }
    }
}

async fn node_state(node: &Node) -> NodeState {
    NodeState {
        name: node.name().to_owned(),
        address: node.address().to_owned(),
        pid: node.pid(),
        // Without a process of ours, somebody else may answer on the port.
        ready: node.pid().is_some() && node.is_ready().await,
    }
}

/// A node that is frozen, or hangs, is killed after the time a stop may take.
async fn end(node: &Node) -> Result<(), ServerError> {
    match node.stop().await {
        Err(ServerError::Process {
            source: ProcessError::StillRunning { .. },
            ..
        }) => node.kill().await,
        Err(ServerError::NotRunning { .. }) => Ok(()),
        outcome => outcome,
    }
}

impl std::fmt::Display for StandingShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kafka,
            cassandra,
            kafka_port,
            cassandra_port,
        } = self;
        write!(
            f,
            "{kafka} Kafka (port {kafka_port}) and {cassandra} Cassandra (port {cassandra_port})"
        )
    }
}
