//! Client of the random-user API: one request for one page. Checks status, content type and size, and classifies errors.
//! No retries; `random_user` parses the content.

use std::future::Future;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode, Url};
use thiserror::Error;

use crate::config::SourceSettings;
use crate::http::{self, ReadBodyError};
use crate::run::plan::PageRequest;
use crate::transform::mapping::Mapping;
use crate::transform::page::Page;
use crate::transform::random_user::{self, ExpectedPage, ReplyError};

/// Fetches pages of the random-user API.
pub trait UserApi {
    /// Sends one request for one page.
    fn fetch_page(&self, request: &PageRequest) -> impl Future<Output = Result<Page, FetchError>> + Send;
}

/// Error of one request to the API.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No connection, or it was lost before the response.
    #[error("failed to reach the API")]
    Unreachable(#[source] reqwest::Error),
    /// The request timed out before the last byte.
    #[error("no complete response from the API within source.request_timeout of {0:?}")]
    Timeout(Duration),
    /// The connection was lost within the response.
    #[error("failed to read the API's response")]
    Truncated(#[source] reqwest::Error),
    /// The response exceeds the size limit.
    #[error("the API's response exceeds source.max_response_size of {limit}")]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// Another status than 200.
    #[error("the API responded with {status}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The wait that the response requests.
        retry_after: Option<Duration>,
    },
    /// A redirect, which is not followed.
    #[error("the API responded with {status}, a redirect to {}", .location.as_deref().unwrap_or("nowhere"))]
    Redirect {
        /// The status.
        status: StatusCode,
        /// The target.
        location: Option<String>,
    },
    /// The content encoding is not supported, or the body is damaged.
    #[error("failed to decode the API's response")]
    Decode(#[source] ReadBodyError),
    /// A 200 response that isn't JSON, such as a challenge page.
    #[error("the API responded with 200 and a content type other than application/json")]
    ContentType,
    /// A 200 response that isn't the requested page.
    #[error("the API responded with 200 and an invalid reply")]
    Reply(#[source] ReplyError),
}

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchAction {
    /// Retry with backoff, at least after this wait, up to the configured attempts.
    Retry(Option<Duration>),
    /// Rate limited, by this client's usage or another's: wait at least this long, then retry.
    RateLimited(Option<Duration>),
    /// Fail: a retry cannot succeed.
    Fail,
}

impl FetchError {
    /// Returns what to do after this error.
    #[must_use]
    pub fn action(&self) -> FetchAction {
        match self {
            Self::Status { status, retry_after } => match status.as_u16() {
                429 => FetchAction::RateLimited(*retry_after),
                408 | 500.. => FetchAction::Retry(*retry_after),
                _ => FetchAction::Fail,
            },
            Self::Reply(ReplyError::Version { .. }) | Self::TooLarge { .. } | Self::Redirect { .. } => {
                FetchAction::Fail
            }
            _ => FetchAction::Retry(None),
        }
    }

    /// Whether the API may have counted the users against the rate limit.
    #[must_use]
    pub fn may_have_consumed(&self) -> bool {
        !matches!(
            self,
            Self::Unreachable(_) | Self::Status { .. } | Self::Redirect { .. }
        )
    }

    /// Returns the status label for metrics.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Unreachable(_) => "unreachable".to_owned(),
            Self::Timeout(_) => "timeout".to_owned(),
            Self::Truncated(_) => "truncated".to_owned(),
            Self::Status { status, .. } | Self::Redirect { status, .. } => status.as_str().to_owned(),
            Self::TooLarge { .. } | Self::Decode(_) | Self::ContentType | Self::Reply(_) => {
                "invalid".to_owned()
            }
        }
    }
}

/// Client of the random-user API over HTTP.
pub struct HttpUserApi {
    client: Client,
    url: Url,
    version: String,
    request_timeout: Duration,
    max_response_size: ByteSize,
    mapping: Mapping,
}

impl HttpUserApi {
    /// Creates a client whose pages are mapped by `mapping`. Does not connect yet.
    ///
    /// # Errors
    /// Returns an error when TLS can't be set up.
    pub fn new(settings: &SourceSettings, mapping: Mapping) -> Result<Self, reqwest::Error> {
        let url = settings.url.url().clone();
        Ok(Self {
            client: http::client(&url, settings.connect_timeout, settings.request_timeout)?,
            url,
            version: settings.version.clone(),
            request_timeout: settings.request_timeout,
            max_response_size: settings.max_response_size,
            mapping,
        })
    }

    async fn send(&self, request: &PageRequest) -> Result<Response, reqwest::Error> {
        let query = [
            ("results", request.results.to_string()),
            ("page", request.page.to_string()),
            ("seed", request.seed.clone()),
        ];
        let get = self.client.get(self.url.clone()).query(&query);
        get.header(ACCEPT, model::headers::JSON)
            .header(ACCEPT_ENCODING, http::ACCEPTED_ENCODING)
            .send()
            .await
    }

    fn transport_error(
        &self,
        error: reqwest::Error,
        otherwise: impl FnOnce(reqwest::Error) -> FetchError,
    ) -> FetchError {
        if error.is_timeout() {
            FetchError::Timeout(self.request_timeout)
        } else {
            otherwise(error)
        }
    }
}

impl UserApi for HttpUserApi {
    async fn fetch_page(&self, request: &PageRequest) -> Result<Page, FetchError> {
        let sent = self.send(request).await;
        let response = sent.map_err(|error| self.transport_error(error, FetchError::Unreachable))?;
        if response.status().is_redirection() {
            return Err(FetchError::Redirect {
                status: response.status(),
                location: http::location(response.headers()),
            });
        }
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status {
                status: response.status(),
                retry_after: http::retry_after(response.headers(), Timestamp::now()),
            });
        }
        if !is_json(&response) {
            return Err(FetchError::ContentType);
        }
        let body = http::body(response, self.max_response_size)
            .await
            .map_err(|error| match error {
                ReadBodyError::Read(error) => self.transport_error(error, FetchError::Truncated),
                ReadBodyError::TooLarge { limit } => FetchError::TooLarge { limit },
                error @ (ReadBodyError::Encoding(_) | ReadBodyError::Decompress(_)) => {
                    FetchError::Decode(error)
                }
            })?;
        let arrived = Timestamp::now();
        let expected = ExpectedPage {
            version: &self.version,
            seed: &request.seed,
            page: request.page,
            results: request.results,
        };
        let page = random_user::page(&body, &expected, &self.mapping).map_err(FetchError::Reply)?;
        Ok(page.with_fetched_at(arrived))
    }
}

fn is_json(response: &Response) -> bool {
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(model::headers::JSON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_action() {
        let status = |status: u16, retry_after| {
            let status = StatusCode::from_u16(status).unwrap();
            FetchError::Status { status, retry_after }.action()
        };
        let wait = Some(Duration::from_secs(3));
        assert_eq!(status(429, None), FetchAction::RateLimited(None));
        assert_eq!(status(429, wait), FetchAction::RateLimited(wait));
        assert_eq!(status(503, wait), FetchAction::Retry(wait));
        for retried in [408, 500, 502, 504, 520, 599] {
            assert_eq!(status(retried, None), FetchAction::Retry(None), "{retried}");
        }
        for fatal in [204, 301, 302, 400, 401, 403, 404, 418] {
            assert_eq!(status(fatal, wait), FetchAction::Fail, "{fatal}");
        }
        let redirect = |location: Option<&str>| FetchError::Redirect {
            status: StatusCode::MOVED_PERMANENTLY,
            location: location.map(str::to_owned),
        };
        assert_eq!(redirect(None).action(), FetchAction::Fail);
        assert_eq!(
            redirect(Some("https://a/api/2/")).to_string(),
            "the API responded with 301 Moved Permanently, a redirect to https://a/api/2/"
        );
        let encoding = FetchError::Decode(ReadBodyError::Encoding("br".into()));
        assert_eq!(encoding.action(), FetchAction::Retry(None));
        assert_eq!(FetchError::ContentType.action(), FetchAction::Retry(None));
        assert_eq!(
            FetchError::Reply(ReplyError::Empty).action(),
            FetchAction::Retry(None)
        );
        let version = ReplyError::Version {
            requested: "1.4".into(),
            received: "1.3".into(),
        };
        assert_eq!(FetchError::Reply(version).action(), FetchAction::Fail);
        let seed = ReplyError::Seed {
            requested: "abc".into(),
            declared: "def".into(),
        };
        assert_eq!(FetchError::Reply(seed).action(), FetchAction::Retry(None));
    }
}
