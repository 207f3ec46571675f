//! A stack that outlives the process that started it: `scripts/stack`.
//!
//! Its folder holds its shape, and each node's data and process id. A process is a node only if its command line names
//! the node's folder.

use std::fs;
use std::io::{Error as IoError, ErrorKind};
use std::path::PathBuf;

use futures::future::{join_all, try_join, try_join_all};
use serde::Serialize;

use super::artifacts::folder_of;
use super::folder::write;
use super::{
    CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, Node, ServerError, Software, StackShape,
    jars,
};
use crate::process::{Lifetime, ProcessError};

/// The state of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name, such as `kafka-1`.
    pub name: String,
    /// Its address for clients.
    pub address: String,
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// Whether it serves.
    pub ready: bool,
}

/// The state of a stack. Its serialized form is the last line of `scripts/stack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StackStatus {
    /// Kafka's addresses, when the stack includes Kafka.
    pub kafka: Option<String>,
    /// Cassandra's addresses, when the stack includes Cassandra.
    pub cassandra: Option<String>,
    /// Whether there is a stack and all of its nodes serve.
    pub up: bool,
    /// Each node.
    #[serde(skip)]
    pub nodes: Vec<NodeStatus>,
}

/// The stack of one folder, running or not.
#[derive(Debug, Clone)]
pub struct DetachedStack {
    dir: PathBuf,
}

/// The clusters of a shape.
#[derive(Debug, Default)]
struct Clusters {
    kafka: Option<KafkaCluster>,
    cassandra: Option<CassandraCluster>,
}

impl DetachedStack {
    /// The stack with its data in `dir`, which may be absent.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Starts the nodes that do not run, on their data, and waits until all serve. When one fails, the others run on.
    pub async fn up(&self, shape: StackShape) -> Result<StackStatus, ServerError> {
        self.claim(shape)?;
        let clusters = self.configure(shape)?;
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
        Ok(clusters.status().await)
    }

    /// Returns the state of each node.
    pub async fn status(&self) -> Result<StackStatus, ServerError> {
        Ok(self.clusters()?.status().await)
    }

    /// Stops every node and keeps the data.
    pub async fn down(&self) -> Result<StackStatus, ServerError> {
        let clusters = self.clusters()?;
        try_join_all(clusters.nodes().map(end)).await?;
        Ok(clusters.status().await)
    }

    /// Removes the data of a stack that is down.
    pub fn wipe(&self) -> Result<(), ServerError> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(ServerError::file(&self.dir)(error)),
            _ => Ok(()),
        }
    }

    /// Stores the shape. Fails when the folder has another one.
    fn claim(&self, requested: StackShape) -> Result<(), ServerError> {
        match self.shape()? {
            Some(found) if found == requested => Ok(()),
            Some(found) => Err(ServerError::OtherStack {
                dir: self.dir.clone(),
                found,
                requested,
            }),
            None => {
                fs::create_dir_all(&self.dir).map_err(ServerError::file(&self.dir))?;
                let path = self.shape_path();
                let text = serde_json::to_string(&requested)
                    .map_err(|error| ServerError::file(&path)(error.into()))?;
                write(&path, &text)
            }
        }
    }

    fn shape(&self) -> Result<Option<StackShape>, ServerError> {
        let path = self.shape_path();
        let shape = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(IoError::from),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        shape.map_err(ServerError::file(path))
    }

    fn shape_path(&self) -> PathBuf {
        self.dir.join("stack.json")
    }

    fn clusters(&self) -> Result<Clusters, ServerError> {
        self.shape()?
            .map_or_else(|| Ok(Clusters::default()), |shape| self.configure(shape))
    }

    fn configure(&self, shape: StackShape) -> Result<Clusters, ServerError> {
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
        let with_kafka = || KafkaCluster::configure(&kafka, &folder_of(Software::KAFKA)?);
        let with_cassandra = || CassandraCluster::configure(&cassandra, &folder_of(Software::CASSANDRA)?);
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

    async fn status(&self) -> StackStatus {
        let nodes = join_all(self.nodes().map(node_status)).await;
        StackStatus {
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

async fn node_status(node: &Node) -> NodeStatus {
    NodeStatus {
        name: node.name().to_owned(),
        address: node.address().to_owned(),
        pid: node.pid(),
        // Without our process, another program may serve on the port.
        ready: node.pid().is_some() && node.is_ready().await,
    }
}

/// Stops a node. One that is frozen or hangs is killed after the stop timeout.
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
