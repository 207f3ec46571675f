//! Command lines and settings of the services.

use std::time::Duration;

use testkit::proxy::Proxy;
use testkit::service::ServiceOptions;

use super::clock::CLOCK_SHIFT_ENV;
use super::config::{ROLE_PASSWORD, RoundConfig};
use super::failpoint::{CRASH_POINTS_ENV, FAILPOINT_ENV};
use crate::cluster::Cluster;
use crate::scenario::fault::Release;
use crate::service_id::{OPERATOR_STREAMER, ServiceId};

/// How long a killed streamer stays a member of the group.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

fn base(name: &'static str, id: ServiceId, config: &RoundConfig, release: Release) -> ServiceOptions {
    let mut options = ServiceOptions::new(name, &config.folder)
        .log_name(id.to_string())
        .env(CRASH_POINTS_ENV, config.crash_requests(id));
    let folder = match release {
        Release::Present => &config.binaries,
        Release::Previous => &config.previous,
    };
    if let Some(folder) = folder {
        options = options.binary(folder.join(name));
    }
    if let Some(failpoint) = config.failpoint {
        options = options.env(FAILPOINT_ENV, failpoint);
    }
    if let (Some(seconds), Some(library)) = (config.clock_shifts.get(&id), &config.clock_library) {
        options = options
            .env("LD_PRELOAD", library)
            .env(CLOCK_SHIFT_ENV, seconds.to_string());
    }
    options
}

pub(super) fn publisher(cluster: &Cluster, config: &RoundConfig, release: Release) -> ServiceOptions {
    let base = base("publisher", ServiceId::Publisher, config, release);
    let options = config.record.configure(base);
    options
        .set("kafka.brokers", cluster.brokers())
        .set("kafka.topic", &config.name)
        .set("kafka.replication", cluster.shape.topic_replicas().to_string())
        .set(
            "kafka.min_insync_replicas",
            cluster.shape.min_in_sync().to_string(),
        )
}

pub(crate) fn streamer(
    cluster: &Cluster,
    config: &RoundConfig,
    id: ServiceId,
    release: Release,
) -> ServiceOptions {
    let mut options = config.record.configure(base("streamer", id, config, release));
    if config.static_members {
        options = options.set("kafka.instance_id", id.to_string());
    }
    if let Some(ttl) = config.row_ttl {
        options = options.set("cassandra.row_ttl", format!("{}s", ttl.as_secs()));
    }
    if let Some(role) = &config.role {
        options = options
            .set("cassandra.username", role)
            .set("cassandra.password", ROLE_PASSWORD);
    }
    if config.tombstones_to_dead_letters && id != OPERATOR_STREAMER {
        options = options.set("tombstones", "dead_letter");
    }
    options
        .set("kafka.brokers", cluster.brokers())
        .set("kafka.topic", &config.name)
        .set("kafka.dead_letter_topic", config.dead_letter_topic())
        .set("kafka.group", &config.name)
        .set("kafka.replication", cluster.shape.brokers().to_string())
        .set("kafka.session_timeout", format!("{}s", SESSION_TIMEOUT.as_secs()))
        .set("cassandra.contact_points", cluster.contact_points())
        .set("cassandra.keyspace", &config.name)
        .set("cassandra.replication", cluster.shape.keyspace_replication())
        .set("cassandra.request_timeout", "3s")
}

/// `streamer`: the admin URL of a streamer, which has the ledger.
pub(super) fn ingester(
    config: &RoundConfig,
    publisher: &Proxy,
    api: &Proxy,
    streamer: &str,
    release: Release,
) -> ServiceOptions {
    let state = config
        .disk
        .as_ref()
        .map_or_else(|| config.folder.clone(), |disk| disk.path());
    let options = base("ingester", ServiceId::Ingester, config, release).arg("run");
    // The names of 0.1.0.
    let options = match release {
        Release::Present => options
            .set("source.request_timeout", "2s")
            .set("source.circuit_breaker.open_duration", "1s")
            .set("publisher.batch_size", "20")
            .set("pipeline.streamer_url", streamer),
        Release::Previous => options
            .set("source.request_deadline", "2s")
            .set("source.breaker.pause", "1s")
            .set("publisher.batch", "20"),
    };
    options
        .set("source.url", format!("http://{}/api/1.4/", api.address()))
        .set("source.page_size", "100")
        .set("source.backoff.initial", "50ms")
        .set("source.backoff.max", "500ms")
        .set("publisher.url", format!("http://{}", publisher.address()))
        .set("publisher.backoff.max", "1s")
        .set("run.users", "200")
        .set("schedule.interval", "24h")
        .set("state.path", state.join("ingester.sqlite").to_string_lossy())
}
