//! Client of the publisher: one request. No retries; `response` parses the response, `retrying_sender` handles errors.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use jiff::Timestamp;
use model::headers::{JSON, http as names};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Client, Response, Url};
use service::{Secret, TraceContext};
use thiserror::Error;
use uuid::Uuid;

use crate::config::PublisherSettings;
use crate::delivery::compression::Compression;
use crate::delivery::response::{BatchOutcome, RawResponse, ResponseError, parse_response};
use crate::http::{self, ReadBodyError};

/// One request to the publisher.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// Id of the run.
    pub run: Uuid,
    /// Sequence number of the first record in the run.
    pub first: u64,
    /// Number of records in the body.
    pub records: u64,
    /// When the API's reply with the records arrived, if that is known.
    pub fetched_at: Option<Timestamp>,
    /// The span of the request; `None` if tracing is off.
    pub trace: Option<TraceContext>,
    /// JSON array of records.
    pub body: Bytes,
}

impl PublishRequest {
    /// Returns the idempotency key. The same records of the same run have the same key in each process.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}+{}", self.run, self.first, self.records)
    }
}

/// Sends records to the publisher.
pub trait PublisherClient {
    /// Sends one request.
    fn publish(
        &self,
        request: &PublishRequest,
    ) -> impl Future<Output = Result<BatchOutcome, SendError>> + Send;
}

/// Error of one request. The outcome of its records is unknown or negative.
#[derive(Debug, Error)]
pub enum SendError {
    /// No connection, or it was lost; the records may have been written.
    #[error("failed to reach the publisher")]
    Unreachable(#[source] reqwest::Error),
    /// The request timed out; the records may have been written.
    #[error("no response from the publisher within {0:?}")]
    Timeout(Duration),
    /// The response was incomplete or too large; the records may have been written.
    #[error("failed to read the publisher's response")]
    Body(#[source] ReadBodyError),
    /// The response is an error or invalid.
    #[error(transparent)]
    Response(#[from] ResponseError),
}

impl SendError {
    /// Returns the status label for metrics.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Unreachable(_) => "unreachable".to_owned(),
            Self::Timeout(_) => "timeout".to_owned(),
            Self::Body(_) => "truncated".to_owned(),
            Self::Response(ResponseError::Invalid { .. }) => "invalid".to_owned(),
            Self::Response(ResponseError::TooLarge) => "413".to_owned(),
            Self::Response(
                ResponseError::Retryable { status, .. }
                | ResponseError::Foreign { status, .. }
                | ResponseError::Unauthorized { status }
                | ResponseError::Permanent { status, .. },
            ) => status.to_string(),
        }
    }
}

/// Client of the publisher over HTTP. Clones share connections.
#[derive(Clone)]
pub struct HttpPublisher {
    client: Client,
    url: Url,
    token: Option<Secret>,
    compression: Compression,
    connect_timeout: Duration,
    request_timeout: Duration,
    max_response_size: ByteSize,
}

impl HttpPublisher {
    /// Creates a client. Does not connect yet.
    ///
    /// # Errors
    /// Returns an error when TLS can't be set up.
    pub fn new(settings: &PublisherSettings) -> Result<Self, reqwest::Error> {
        let url = users_url(settings.url.url().clone());
        Ok(Self {
            client: http::direct_client(settings.connect_timeout, settings.request_timeout)?,
            compression: settings.compression.towards(&url),
            url,
            token: settings.token.clone(),
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.request_timeout,
            max_response_size: settings.max_response_size,
        })
    }

    async fn send(&self, request: &PublishRequest) -> Result<Response, reqwest::Error> {
        let mut builder = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT, JSON)
            .header(names::RUN_ID, request.run.to_string())
            .header(names::RUN_SEQ, request.first)
            .header(names::IDEMPOTENCY_KEY, request.key());
        if let Some(at) = request.fetched_at {
            builder = builder.header(names::FETCHED_AT_US, at.as_microsecond());
        }
        if let Some(trace) = request.trace {
            builder = builder.header(names::TRACEPARENT, trace.traceparent());
        }
        if let Some(token) = &self.token {
            builder = builder.bearer_auth(token.expose());
        }
        let (coding, body) = self.compression.of(&request.body);
        if let Some(coding) = coding {
            builder = builder.header(CONTENT_ENCODING, coding);
        }
        builder.body(body).send().await
    }

    /// Checks whether the publisher responds. The route has no GET; any response shows that the server is running.
    ///
    /// # Errors
    /// Returns an error when no response arrives within the connect timeout.
    pub async fn probe(&self) -> Result<(), SendError> {
        let request = self.client.get(self.url.clone()).timeout(self.connect_timeout);
        let sent = request.send().await;
        sent.map(drop)
            .map_err(|error| send_error(error, self.connect_timeout))
    }
}

fn send_error(error: reqwest::Error, timeout: Duration) -> SendError {
    if error.is_timeout() {
        SendError::Timeout(timeout)
    } else {
        SendError::Unreachable(error)
    }
}

impl PublisherClient for HttpPublisher {
    async fn publish(&self, request: &PublishRequest) -> Result<BatchOutcome, SendError> {
        let sent = self.send(request).await;
        let response = sent.map_err(|error| send_error(error, self.request_timeout))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = http::body(response, self.max_response_size).await;
        let body = body.map_err(SendError::Body)?;
        let location = http::location(&headers);
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let response = RawResponse {
            status,
            content_type: text(CONTENT_TYPE),
            location: location.as_deref(),
            retry_after: http::retry_after(&headers, Timestamp::now()),
            body: &body,
        };
        Ok(parse_response(&response, request.records)?)
    }
}

/// Appends `v1/users` to the path of the publisher's URL.
fn users_url(mut url: Url) -> Url {
    let path = format!("{}/v1/users", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_is_appended_to_the_configured_path() {
        for (address, expected) in [
            ("http://a:1", "http://a:1/v1/users"),
            ("http://a:1/", "http://a:1/v1/users"),
            ("https://a/affluent", "https://a/affluent/v1/users"),
        ] {
            assert_eq!(users_url(address.parse().unwrap()).as_str(), expected);
        }
    }
}
