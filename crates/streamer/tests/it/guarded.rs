//! A second Cassandra, for what the shared one can't be used for: clients log in, may come over TLS, values can be too
//! long, and it may be frozen.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde_json::json;
use testkit::servers::pool::Access;
use testkit::servers::{CassandraCluster, CassandraOptions, Node, Nodetool};
use testkit::service::ServiceOptions;
use tokio::sync::OnceCell;

use crate::authority::{Authority, joined};
use crate::world::World;

struct Servers {
    cassandra: CassandraCluster,
    authority: Authority,
}

/// The cluster of the tests that leave its node alone.
static SHARED: OnceCell<Servers> = OnceCell::const_new();
/// The cluster of the one test that disturbs it.
static EXCLUSIVE: OnceCell<Servers> = OnceCell::const_new();

/// The longest value of a column, in bytes, that a role of ours may write.
pub(crate) const LONGEST_VALUE: usize = 400;

/// What the node's certificate is for, beside its address.
pub(crate) const SERVER_NAME: &str = "cassandra.affluent.test";

/// A role's password at the beginning.
pub(crate) const PASSWORD: &str = "pässwort";

async fn servers(access: Access) -> &'static Servers {
    let servers = match access {
        Access::Shared => &SHARED,
        Access::Exclusive => &EXCLUSIVE,
    };
    servers
        .get_or_init(|| async {
            let authority = Authority::shared("guarded");
            let (certificate, key) = authority.issue_once("node", &["127.0.0.1", SERVER_NAME]);
            // A revoked permission takes effect at once.
            let overrides = ["permissions_validity", "roles_validity", "credentials_validity"]
                .map(|key| (key.to_owned(), json!("100ms")));
            let longest = json!(format!("{LONGEST_VALUE}B"));
            // One port for both: who comes over TLS has to show a certificate.
            let encryption = json!({
                "enabled": true,
                "optional": true,
                "require_client_auth": "true",
                "keystore": joined(&[&key, &certificate]),
                "truststore": authority.file(),
                "ssl_context_factory": {
                    "class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory",
                },
            });
            let options = CassandraOptions {
                authentication: true,
                overrides: BTreeMap::from_iter(
                    overrides
                        .into_iter()
                        .chain([("column_value_size_fail_threshold".to_owned(), longest)])
                        .chain([("client_encryption_options".to_owned(), encryption)]),
                ),
                ..CassandraOptions::default()
            };
            let options = options.synced();
            let cassandra = match access {
                Access::Shared => CassandraCluster::shared(&options).await,
                Access::Exclusive => CassandraCluster::lease(&options).await,
            };
            Servers {
                cassandra: cassandra.unwrap(),
                authority,
            }
        })
        .await
}

/// A world on the guarded cluster, with a role of its own.
pub(crate) struct Guarded {
    world: World,
    server: &'static Node,
    nodetool: &'static Nodetool,
    authority: &'static Authority,
}

impl Deref for Guarded {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// A world on the guarded cluster that tests share.
pub(crate) async fn guarded(name: &str, partitions: i32) -> Guarded {
    Guarded::new(name, partitions, Access::Shared).await
}

/// A world on a guarded cluster of its own, which it may disturb.
pub(crate) async fn alone(name: &str, partitions: i32) -> Guarded {
    Guarded::new(name, partitions, Access::Exclusive).await
}

impl Guarded {
    async fn new(name: &str, partitions: i32, access: Access) -> Self {
        let Servers { cassandra, authority } = servers(access).await;
        let world = World::beside(name, cassandra.contact_points())
            .await
            .with_topic(partitions)
            .await;
        let role = &world.keyspace;
        for statement in [
            format!("CREATE ROLE {role} WITH PASSWORD = '{PASSWORD}' AND LOGIN = true"),
            format!("GRANT CREATE ON ALL KEYSPACES TO {role}"),
        ] {
            world.table.run(&statement).await.unwrap();
        }
        Self {
            world,
            server: cassandra.node(0).unwrap(),
            nodetool: cassandra.nodetool(),
            authority,
        }
    }

    /// The world, whose own options log in as nobody.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The node.
    pub(crate) fn server(&self) -> &'static Node {
        self.server
    }

    /// The node's `nodetool`.
    pub(crate) fn nodetool(&self) -> &'static Nodetool {
        self.nodetool
    }

    /// Who has signed the node's certificate, and whom the node trusts.
    pub(crate) fn authority(&self) -> &'static Authority {
        self.authority
    }

    /// How a streamer of this world is started: it logs in as the world's role.
    pub(crate) fn options(&self) -> ServiceOptions {
        self.world
            .options()
            .set("cassandra.username", &self.world.keyspace)
            .set("cassandra.password", PASSWORD)
    }
}

/// A node that is frozen until this is dropped, however the test ends.
pub(crate) struct Frozen(&'static Node);

impl Frozen {
    /// Freezes it.
    pub(crate) async fn new(node: &'static Node) -> Self {
        node.freeze().await.unwrap();
        Self(node)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It fails only where there is no process left to thaw.
        drop(self.0.thaw());
    }
}
