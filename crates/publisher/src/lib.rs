#![doc = include_str!("../README.md")]

pub mod config;

/// The old path of [`config`]. To be removed once no module uses it.
pub mod settings {
    pub(crate) use crate::config::MESSAGE_TIMEOUT_SLACK as GIVING_UP;
    pub use crate::config::*;
}

mod files;
pub mod server;
pub mod tls;

pub mod api;

pub mod budget;
pub mod callers;

pub mod admission;
pub mod body;
mod buffer;
pub mod coding;

pub mod origin;
pub mod preference;
pub mod records;

pub mod memory;
mod publication;

mod client;
pub mod deliveries;
pub mod producer;

pub mod link;
mod topic;
mod watch;

pub mod verdict;

pub mod answer;
pub mod problem;
pub mod schema;
mod unread;

mod error;
pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

pub use client::ClientError;
pub use config::PublisherSettings;
pub use error::PublisherError;

use api::Door;
use callers::Callers;
use config::MESSAGE_TIMEOUT_SLACK;
use link::{Broken, KafkaLink};
use metrics::PublisherMetrics;
use producer::Producer;
use server::Server;
use service::{Context, reload};
use tls::Tls;
use tokio_util::sync::CancellationToken;
use watch::KafkaWatch;

/// Takes requests until it is told to stop, answers those it has taken, and sees their records into Kafka.
///
/// # Errors
/// What ends it early, or keeps it from ending well.
pub async fn run(settings: PublisherSettings, context: Context) -> Result<(), PublisherError> {
    let metrics = Arc::new(PublisherMetrics::new(&context.metrics));
    let link = KafkaLink::new(context.health.dependency("kafka"), metrics.kafka_up.clone());
    let producer = Producer::new(
        &settings.kafka,
        &settings.limits,
        Arc::clone(&metrics),
        link.clone(),
    )?;
    let producer = Arc::new(producer);
    let callers = Callers::load(&settings.auth, &settings.rate_limit, settings.largest_body())?;
    let callers = Arc::new(callers);
    files::make_room(settings.http.max_connections);
    let tls = Tls::load(&settings.tls)?.map(Arc::new);
    let server = Server::bind(&settings.http, tls.clone(), metrics.connections.clone()).await?;

    let stop = context.shutdown.child_token();
    let watch = KafkaWatch {
        settings: Arc::new(settings.kafka.clone()),
        producer: Arc::clone(&producer),
        link: link.clone(),
    };
    let rereading = reread(
        Arc::clone(&callers),
        tls,
        settings.http.reload_interval,
        stop.clone(),
    );
    let door = Door::new(
        &settings,
        callers,
        Arc::clone(&producer),
        link,
        metrics,
        stop.clone(),
    );
    let door = Arc::new(door);
    let ((), (), watched) = tokio::join!(
        server.serve(api::service(Arc::clone(&door)), stop.clone()),
        rereading,
        watch_and_stop(watch, stop),
    );
    door.finish().await;

    // Callers who did not wait for their answer may have left records behind.
    let patience = settings.kafka.message_timeout + MESSAGE_TIMEOUT_SLACK;
    let flushing = tokio::task::spawn_blocking(move || producer.flush(patience));
    flushing.await.map_err(PublisherError::Flush)??;
    Ok(watched?)
}

/// Tokens and certificates may change while the process runs.
async fn reread(callers: Arc<Callers>, tls: Option<Arc<Tls>>, interval: Duration, stop: CancellationToken) {
    let tokens = reload::watch("tokens", interval, stop.clone(), move || callers.reload());
    let certificates = reload::watch("certificates", interval, stop, move || {
        tls.as_ref().map_or(Ok(false), |tls| tls.reload())
    });
    tokio::join!(tokens, certificates);
}

/// What the watch finds broken ends the serving, too.
async fn watch_and_stop(watch: KafkaWatch, stop: CancellationToken) -> Result<(), Broken> {
    let watched = watch.run(stop.clone()).await;
    stop.cancel();
    watched
}
