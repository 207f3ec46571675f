//! A receiver of traces over OTLP, and the OpenTelemetry Collector in front of it.
//!
//! Reads the protocol's bytes by the numbers of its fields and shares no code with the services' exporter.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::process::{Child, ProcessError, Program, last_lines};
use crate::servers::ServerError;
use crate::servers::ports::PortLease;

/// A received span. Ids are hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedSpan {
    /// The name of the service.
    pub service: String,
    /// The name of the span.
    pub name: String,
    /// The id of its trace.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// The id of its parent; empty for a root.
    pub parent: String,
    /// Trace and span of each link.
    pub links: Vec<(String, String)>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub is_error: bool,
}

/// A server for `POST /v1/traces`, which ends when it is dropped.
pub struct TraceReceiver {
    endpoint: String,
    spans: Arc<Mutex<Vec<ReceivedSpan>>>,
    server: JoinHandle<io::Result<()>>,
}

impl TraceReceiver {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let spans = Arc::<Mutex<Vec<ReceivedSpan>>>::default();
        let router = Router::new()
            .route("/v1/traces", post(receive))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&spans));
        Ok(Self {
            endpoint,
            spans,
            server: tokio::spawn(async { axum::serve(listener, router).await }),
        })
    }

    /// The value of `telemetry.otlp_endpoint`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TraceReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(State(spans): State<Arc<Mutex<Vec<ReceivedSpan>>>>, body: Bytes) -> StatusCode {
    let Some(received) = spans_of(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    spans
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(received);
    StatusCode::OK
}

/// The value of a field.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads an `ExportTraceServiceRequest`. `None` if it is malformed.
fn spans_of(request: &[u8]) -> Option<Vec<ReceivedSpan>> {
    let mut spans = Vec::new();
    for resource_spans in messages(request, 1)? {
        let mut resource = BTreeMap::new();
        for message in messages(resource_spans, 1)? {
            resource.extend(attributes(message, 1)?);
        }
        let service = resource.remove("service.name").unwrap_or_default();
        for scope_spans in messages(resource_spans, 2)? {
            for span in messages(scope_spans, 2)? {
                spans.push(ReceivedSpan {
                    service: service.clone(),
                    ..span_of(span)?
                });
            }
        }
    }
    Some(spans)
}

fn span_of(span: &[u8]) -> Option<ReceivedSpan> {
    let text = |tag| {
        Some(
            messages(span, tag)?
                .last()
                .map_or_else(String::new, |bytes| utf8(bytes)),
        )
    };
    let id = |message, tag| {
        Some(
            messages(message, tag)?
                .last()
                .map_or_else(String::new, |bytes| hex(bytes)),
        )
    };
    let mut links = Vec::new();
    for link in messages(span, 13)? {
        links.push((id(link, 1)?, id(link, 2)?));
    }
    let mut is_error = false;
    for status in messages(span, 15)? {
        is_error |= fields(status)?
            .iter()
            .any(|field| matches!(field, (3, Field::Number(2))));
    }
    Some(ReceivedSpan {
        service: String::new(),
        name: text(5)?,
        trace: id(span, 1)?,
        id: id(span, 2)?,
        parent: id(span, 4)?,
        links,
        attributes: attributes(span, 9)?,
        is_error,
    })
}

fn attributes(message: &[u8], tag: u64) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for attribute in messages(message, tag)? {
        let key = messages(attribute, 1)?
            .last()
            .map_or_else(String::new, |key| utf8(key));
        let value = messages(attribute, 2)?.pop().unwrap_or_default();
        let value = match fields(value)?.pop() {
            Some((1, Field::Bytes(text))) => utf8(text),
            Some((3, Field::Number(number))) => number.cast_signed().to_string(),
            _ => return None,
        };
        found.insert(key, value);
    }
    Some(found)
}

/// The values of the fields `tag`, which hold bytes.
fn messages(message: &[u8], tag: u64) -> Option<Vec<&[u8]>> {
    let fields = fields(message)?.into_iter();
    let found = fields.filter_map(|(found, field)| match field {
        Field::Bytes(bytes) if found == tag => Some(bytes),
        _ => None,
    });
    Some(found.collect())
}

/// Reads the fields of a message in Protocol Buffers' encoding.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => Field::Number(u64::from_le_bytes(*take(&mut message, 8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Field::Bytes(take(&mut message, length)?)
            }
            5 => Field::Number(u32::from_le_bytes(*take(&mut message, 4)?.first_chunk()?).into()),
            _ => return None,
        };
        found.push((key >> 3, field));
    }
    Some(found)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(message, 1)?.first_chunk()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why the Collector does not run.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum CollectorError {
    #[error(transparent)]
    Port(#[from] ServerError),
    #[error("failed to write the collector's configuration")]
    Configuration(#[source] io::Error),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the collector does not accept connections\n{log}")]
    NotReady { log: String },
}

/// A process of the OpenTelemetry Collector, which forwards traces to a receiver.
pub struct Collector {
    port: PortLease,
    _child: Child,
}

impl Collector {
    /// Starts `binary`, which `scripts/lib/otel-collector` builds, and waits until it accepts connections. Its configuration
    /// and its log are in `folder`.
    ///
    /// # Errors
    /// When it can't be started, or does not accept connections within `timeout`.
    pub async fn start(
        binary: &Path,
        receiver: &TraceReceiver,
        folder: &Path,
        timeout: Duration,
    ) -> Result<Self, CollectorError> {
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let address = format!("127.0.0.1:{}", port.port());
        let configuration = format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{address}'}}}}}}}}\n\
             exporters: {{otlp_http: {{endpoint: '{}', compression: none}}}}\n\
             service:\n  \
             telemetry: {{metrics: {{level: none}}}}\n  \
             pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}\n",
            receiver.endpoint()
        );
        let path = folder.join("otel-collector.yaml");
        std::fs::write(&path, configuration).map_err(CollectorError::Configuration)?;
        let log = folder.join("otel-collector.log");
        let program = Program::new(binary)
            .arg(format!("--config=file:{}", path.display()))
            .log_to(&log);
        let collector = Self {
            port,
            _child: program.spawn()?,
        };
        let until = Instant::now() + timeout;
        while TcpStream::connect(&address).await.is_err() {
            if Instant::now() >= until {
                let log = last_lines(&log, 20);
                return Err(CollectorError::NotReady { log });
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(collector)
    }

    /// The value of `telemetry.otlp_endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.port())
    }
}
