//! A Cassandra with authentication, optional TLS and a limit for the size of values. A test may lease its own, with
//! authentication only, and freeze it.

use std::ops::Deref;

use testkit::certificates::CertificateAuthority;
use testkit::servers::pool::Access;
use testkit::servers::{CassandraCluster, CassandraOptions, Node, Nodetool, secured};
use testkit::service::ServiceOptions;
use tokio::sync::OnceCell;

use crate::support::test_env::TestEnv;

struct Servers {
    cassandra: CassandraCluster,
    authority: CertificateAuthority,
}

/// The cluster of the tests that do not disturb its node.
static SHARED: OnceCell<Servers> = OnceCell::const_new();
/// The cluster of a test that disturbs its node.
static EXCLUSIVE: OnceCell<Servers> = OnceCell::const_new();

/// Initial password of each role.
pub(crate) const PASSWORD: &str = "pässwort";

async fn servers(access: Access) -> &'static Servers {
    let servers = match access {
        Access::Shared => &SHARED,
        Access::Exclusive => &EXCLUSIVE,
    };
    servers
        .get_or_init(|| async {
            let authority = secured::authority();
            // A test that disturbs its node needs only the login.
            let cassandra = match access {
                Access::Shared => secured::cassandra(&authority).await,
                Access::Exclusive => CassandraCluster::lease(&CassandraOptions::with_login(), access).await,
            };
            Servers {
                cassandra: cassandra.unwrap(),
                authority,
            }
        })
        .await
}

/// An environment on a secured cluster, with its own role.
pub(crate) struct SecuredEnv {
    env: TestEnv,
    server: &'static Node,
    nodetool: &'static Nodetool,
    authority: &'static CertificateAuthority,
}

impl Deref for SecuredEnv {
    type Target = TestEnv;

    fn deref(&self) -> &TestEnv {
        &self.env
    }
}

/// Creates an environment on the secured cluster that tests share.
pub(crate) async fn secured_env(name: &str, partitions: i32) -> SecuredEnv {
    SecuredEnv::new(name, partitions, Access::Shared).await
}

/// Creates an environment on its own secured cluster, which the test may disturb.
pub(crate) async fn exclusive_env(name: &str, partitions: i32) -> SecuredEnv {
    SecuredEnv::new(name, partitions, Access::Exclusive).await
}

impl SecuredEnv {
    async fn new(name: &str, partitions: i32, access: Access) -> Self {
        let Servers { cassandra, authority } = servers(access).await;
        let env = TestEnv::on_cluster(name, cassandra.contact_points())
            .await
            .with_topic(partitions)
            .await;
        create_role(&env, &env.keyspace).await;
        Self {
            env,
            server: cassandra.node(0).unwrap(),
            nodetool: cassandra.nodetool(),
            authority,
        }
    }

    /// Returns the environment whose options have no credentials.
    pub(crate) fn without_login(&self) -> &TestEnv {
        &self.env
    }

    /// Returns the node.
    pub(crate) fn server(&self) -> &'static Node {
        self.server
    }

    /// Returns the node's `nodetool`.
    pub(crate) fn nodetool(&self) -> &'static Nodetool {
        self.nodetool
    }

    /// Returns the authority that issued the node's certificate, and that the node trusts.
    pub(crate) fn authority(&self) -> &'static CertificateAuthority {
        self.authority
    }

    /// Returns the options of a streamer that logs in with the role of this environment.
    pub(crate) fn options(&self) -> ServiceOptions {
        log_in(self.env.options(), &self.env.keyspace)
    }
}

async fn create_role(env: &TestEnv, role: &str) {
    for statement in [
        format!("CREATE ROLE {role} WITH PASSWORD = '{PASSWORD}' AND LOGIN = true"),
        format!("GRANT CREATE ON ALL KEYSPACES TO {role}"),
    ] {
        env.cassandra.run(&statement).await.unwrap();
    }
}

/// Creates a role whose only replica is on this node. Returns its name.
pub(crate) async fn create_role_on(env: &TestEnv, cluster: &CassandraCluster, node: usize) -> String {
    let mut names = (0..).map(|number| format!("{}_{number}", env.keyspace));
    let role = names.find(|role| cluster.owner(role.as_bytes()) == node).unwrap();
    create_role(env, &role).await;
    role
}

/// Returns the options of a streamer that logs in with a role.
pub(crate) fn log_in(options: ServiceOptions, role: &str) -> ServiceOptions {
    options
        .set("cassandra.username", role)
        .set("cassandra.password", PASSWORD)
}

/// Freezes a node until this is dropped, also when the test fails.
pub(crate) struct FrozenNode(&'static Node);

impl FrozenNode {
    /// Freezes `node`.
    pub(crate) async fn new(node: &'static Node) -> Self {
        node.freeze().await.unwrap();
        Self(node)
    }
}

impl Drop for FrozenNode {
    fn drop(&mut self) {
        // This fails only if the process has exited.
        drop(self.0.thaw());
    }
}
