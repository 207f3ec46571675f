#![doc = include_str!("../README.md")]

pub mod config;

pub mod http;

pub mod routes;

pub mod limits;

pub mod request;

pub mod publish;

pub mod kafka;

mod error;
pub mod metrics;
mod status;

use std::sync::Arc;
use std::time::Duration;

pub use config::PublisherSettings;
pub use error::PublisherError;

use config::{HttpSettings, MESSAGE_TIMEOUT_SLACK};
use futures::future::BoxFuture;
use http::tls::Tls;
use kafka::producer::Producer;
use kafka::status::{FatalKafkaError, KafkaStatus};
use kafka::topic_monitor::TopicMonitor;
use limits::callers::Callers;
use limits::rlimit;
use metrics::PublisherMetrics;
use model::Contract;
use routes::state::AppState;
use service::files::reload;
use service::http::server::{Server, TlsSource};
use service::{Authenticator, Context};
use tokio_util::sync::CancellationToken;

/// Serves requests for the contract's records until shutdown, then finishes the accepted ones and flushes the producer.
///
/// # Errors
/// Each [`PublisherError`].
pub fn run(
    settings: PublisherSettings,
    contract: Arc<Contract>,
    context: Context,
) -> BoxFuture<'static, Result<(), PublisherError>> {
    // So that the binary does not compile the library's futures again.
    Box::pin(serve(settings, contract, context))
}

async fn serve(
    settings: PublisherSettings,
    contract: Arc<Contract>,
    context: Context,
) -> Result<(), PublisherError> {
    let metrics = Arc::new(PublisherMetrics::new(&context.metrics));
    status::add_sections(&context.status, &metrics);
    let kafka = KafkaStatus::new(context.health.dependency("kafka"), metrics.kafka_up.clone());
    let producer = Producer::new(
        &settings.kafka,
        settings.kafka.topic(&contract),
        &settings.limits,
        Arc::clone(&metrics),
        kafka.clone(),
        context.tracer.clone(),
    )?;
    let producer = Arc::new(producer);
    let authenticator = Arc::new(Authenticator::load(&settings.auth)?);
    let callers = Callers::new(
        Arc::clone(&authenticator),
        &settings.rate_limit,
        settings.largest_body(),
    );
    rlimit::raise_nofile(settings.http.max_connections);
    let tls = Tls::load(&settings.tls)?.map(Arc::new);
    let server = bind(&settings.http, tls.clone(), &metrics).await?;

    let shutdown = context.shutdown.child_token();
    let monitor = TopicMonitor {
        settings: settings.kafka.clone(),
        producer: Arc::clone(&producer),
        status: kafka.clone(),
    };
    let interval = settings.http.reload_interval;
    let watching = authenticator.watch(interval, &context.health, shutdown.clone());
    let reloading = reload_certificates(tls, interval, shutdown.clone());
    let state = AppState::new(
        &settings,
        contract,
        Arc::new(callers),
        Arc::clone(&producer),
        kafka,
        metrics,
        shutdown.clone(),
    );
    let state = Arc::new(state);
    let ((), (), (), monitored) = tokio::join!(
        server.serve(
            routes::service(Arc::clone(&state), context.tracer.clone()),
            shutdown.clone()
        ),
        watching,
        reloading,
        monitor_and_shut_down(monitor, shutdown),
    );
    state.finish().await;

    // Callers that disconnected early may have left records in the queue.
    let flush_timeout = settings.kafka.message_timeout + MESSAGE_TIMEOUT_SLACK;
    let flushed = tokio::task::spawn_blocking(move || producer.flush(flush_timeout));
    flushed.await.map_err(PublisherError::Flush)??;
    Ok(monitored?)
}

/// Binds the API's address and logs it.
async fn bind(
    settings: &HttpSettings,
    tls: Option<Arc<Tls>>,
    metrics: &PublisherMetrics,
) -> Result<Server, PublisherError> {
    let server = Server::bind("http.listen", settings.listen, settings.connection_limits()).await?;
    let address = server.address().map_err(PublisherError::Address)?;
    tracing::info!(%address, tls = tls.is_some(), "listening");
    let source = tls.map(|tls| -> TlsSource { Arc::new(move || tls.config()) });
    Ok(server.with_tls(source).with_gauge(metrics.connections.clone()))
}

/// Reloads certificates when their files change.
async fn reload_certificates(tls: Option<Arc<Tls>>, interval: Duration, shutdown: CancellationToken) {
    let reload = move || tls.as_ref().map_or(Ok(false), |tls| tls.reload());
    reload::watch("certificates", interval, shutdown, reload).await;
}

/// A fatal error of Kafka shuts the server down, too.
async fn monitor_and_shut_down(
    monitor: TopicMonitor,
    shutdown: CancellationToken,
) -> Result<(), FatalKafkaError> {
    let monitored = monitor.run(shutdown.clone()).await;
    shutdown.cancel();
    monitored
}
