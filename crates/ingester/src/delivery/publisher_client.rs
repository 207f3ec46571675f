//! One request to the publisher: the seam to it. It sends nothing twice; what an answer means is in `answer`, what a
//! failure leads to in `delivery`.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use jiff::Timestamp;
use model::headers::{JSON, http as names};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Client, Response, Url};
use service::Secret;
use thiserror::Error;
use uuid::Uuid;

use crate::delivery::compression::Compression;
use crate::delivery::response::{BatchOutcome, ResponseError, parse_response};
use crate::http::{self, BodyError};
use crate::settings::PublisherSettings;

/// What one request carries.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// The run.
    pub run: Uuid,
    /// The run's number of the first record.
    pub first: u64,
    /// How many records the body holds.
    pub records: u64,
    /// A JSON array.
    pub body: Bytes,
}

impl PublishRequest {
    /// What tells the publisher a repeat from something new: the same records of the same run have the same key, in
    /// whichever process.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}+{}", self.run, self.first, self.records)
    }
}

/// Hands over records.
pub trait PublisherClient {
    /// Sends once.
    fn publish(
        &self,
        parcel: &PublishRequest,
    ) -> impl Future<Output = Result<BatchOutcome, SendError>> + Send;
}

/// The records are not accounted for.
#[derive(Debug, Error)]
pub enum SendError {
    /// No connection came about, or it was lost: whether anything was written is unknown.
    #[error("publisher_health the publisher")]
    Unreachable(#[source] reqwest::Error),
    /// The deadline passed: whether anything was written is unknown.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer broke off or goes on for ever: whether anything was written is unknown.
    #[error("the answer was not had")]
    Body(#[source] BodyError),
    /// It answered, and not that the records are accounted for.
    #[error(transparent)]
    Response(#[from] ResponseError),
}

impl SendError {
    /// A short name for metrics: the status, or what came in place of one.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Unreachable(_) => "unreachable".to_owned(),
            Self::Timeout(_) => "timeout".to_owned(),
            Self::Body(_) => "truncated".to_owned(),
            Self::Response(ResponseError::Invalid { .. }) => "odd".to_owned(),
            Self::Response(ResponseError::TooLarge) => "413".to_owned(),
            Self::Response(
                ResponseError::Retryable { status, .. }
                | ResponseError::Unauthorized { status }
                | ResponseError::Permanent { status, .. },
            ) => status.to_string(),
        }
    }
}

/// The publisher over HTTP. Its clones share their connections.
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
    /// A client of the publisher; connects to nothing yet.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(settings: &PublisherSettings) -> Result<Self, reqwest::Error> {
        let url = users_url(settings.url.url().clone());
        Ok(Self {
            client: http::client(&url, settings.connect_timeout, settings.request_timeout)?,
            compression: settings.compression.towards(&url),
            url,
            token: settings.token.clone(),
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.request_timeout,
            max_response_size: settings.max_response_size,
        })
    }

    async fn send(&self, parcel: &PublishRequest) -> Result<Response, reqwest::Error> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT, JSON)
            .header(names::RUN_ID, parcel.run.to_string())
            .header(names::RUN_SEQ, parcel.first)
            .header(names::IDEMPOTENCY_KEY, parcel.key());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let (coding, body) = self.compression.of(&parcel.body);
        if let Some(coding) = coding {
            request = request.header(CONTENT_ENCODING, coding);
        }
        request.body(body).send().await
    }

    /// Whether anything answers at all. The route takes no GET, and any answer to one shows that somebody is there.
    ///
    /// # Errors
    /// When nothing answers within the deadline for a connection.
    pub async fn probe(&self) -> Result<(), SendError> {
        let request = self.client.get(self.url.clone()).timeout(self.connect_timeout);
        let sent = request.send().await;
        sent.map(drop)
            .map_err(|error| send_error(error, self.connect_timeout))
    }
}

fn send_error(error: reqwest::Error, deadline: Duration) -> SendError {
    if error.is_timeout() {
        SendError::Timeout(deadline)
    } else {
        SendError::Unreachable(error)
    }
}

impl PublisherClient for HttpPublisher {
    async fn publish(&self, parcel: &PublishRequest) -> Result<BatchOutcome, SendError> {
        let sent = self.send(parcel).await;
        let response = sent.map_err(|error| send_error(error, self.request_timeout))?;
        let status = response.status().as_u16();
        let retry_after = http::retry_after(response.headers(), Timestamp::now());
        let body = http::body(response, self.max_response_size).await;
        let body = body.map_err(SendError::Body)?;
        Ok(parse_response(status, retry_after, &body, parcel.records)?)
    }
}

/// `v1/users` behind whatever path the publisher's address has.
fn users_url(mut url: Url) -> Url {
    let path = format!("{}/v1/users", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_goes_behind_the_address() {
        for (address, expected) in [
            ("http://a:1", "http://a:1/v1/users"),
            ("http://a:1/", "http://a:1/v1/users"),
            ("https://a/affluent", "https://a/affluent/v1/users"),
        ] {
            assert_eq!(users_url(address.parse().unwrap()).as_str(), expected);
        }
    }
}
