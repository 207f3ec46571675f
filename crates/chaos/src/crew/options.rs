//! How each service of a round is started.

use std::path::{Path, PathBuf};

use super::Plot;
use crate::evidence::{OPERATORS, Who};
use crate::venue::Venue;
use crate::{clock, moment};
use testkit::proxy::Proxy;
use testkit::service::ServiceOptions;

fn base(name: &'static str, who: Who, plot: &Plot) -> ServiceOptions {
    let mut options = ServiceOptions::new(name, &plot.folder)
        .log_name(who.to_string())
        .env(moment::FOLDER, moments(&plot.folder, who));
    if let Some(folder) = &plot.binaries {
        options = options.binary(folder.join(name));
    }
    if let Some((variable, bug)) = plot.bug {
        options = options.env(variable, bug);
    }
    if let (Some(seconds), Some(library)) = (plot.clocks.get(&who), &plot.clock) {
        options = options
            .env("LD_PRELOAD", library)
            .env(clock::SHIFT, seconds.to_string());
    }
    options
}

pub(super) fn publisher(venue: &Venue, plot: &Plot) -> ServiceOptions {
    let nodes = venue.shape.nodes();
    base("publisher", Who::Publisher, plot)
        .set("kafka.brokers", venue.brokers())
        .set("kafka.topic", &plot.name)
        .set("kafka.replication", nodes.to_string())
        .set("kafka.min_insync_replicas", nodes.div_ceil(2).to_string())
}

/// How a streamer of the round is started, also beyond those that it has.
pub(crate) fn streamer(venue: &Venue, plot: &Plot, who: Who) -> ServiceOptions {
    let nodes = venue.shape.nodes();
    let replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {nodes}}}");
    let mut options = base("streamer", who, plot);
    if plot.are_static {
        options = options.set("kafka.instance_id", who.to_string());
    }
    if plot.sets_deletions_aside && who != OPERATORS {
        options = options.set("tombstones", "dead_letter");
    }
    options
        .set("kafka.brokers", venue.brokers())
        .set("kafka.topic", &plot.name)
        .set("kafka.dead_letter_topic", plot.letters())
        .set("kafka.group", &plot.name)
        .set("kafka.replication", nodes.to_string())
        .set("kafka.session_timeout", "6s")
        .set("cassandra.contact_points", venue.contact_points())
        .set("cassandra.keyspace", &plot.name)
        .set("cassandra.replication", replication)
        .set("cassandra.request_timeout", "3s")
}

pub(super) fn ingester(plot: &Plot, door: &Proxy, way: &Proxy) -> ServiceOptions {
    let state = plot
        .disk
        .as_ref()
        .map_or_else(|| plot.folder.clone(), |disk| disk.path());
    base("ingester", Who::Ingester, plot)
        .arg("run")
        .set("source.url", format!("http://{}/api/1.4/", way.address()))
        .set("source.page_size", "100")
        .set("source.request_timeout", "2s")
        .set("source.backoff.initial", "50ms")
        .set("source.backoff.max", "500ms")
        .set("source.circuit_breaker.open_duration", "1s")
        .set("publisher.url", format!("http://{}", door.address()))
        .set("publisher.batch_size", "20")
        .set("publisher.backoff.max", "1s")
        .set("run.users", "200")
        .set("schedule.interval", "24h")
        .set("state.path", state.join("ingester.sqlite").to_string_lossy())
}

/// Where a process looks whether it is to die at a named moment.
#[must_use]
pub fn moments(folder: &Path, who: Who) -> PathBuf {
    folder.join(format!("{who}.moments"))
}
