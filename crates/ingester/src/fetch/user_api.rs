//! One request for one page: the seam to the random-user API. Checks status, content type and size, and leaves the
//! content to `randomuser`. It tries nothing twice; what a failure leads to is sorted here and done in `source`.

use std::future::Future;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode, Url};
use thiserror::Error;

use crate::http::{self, BodyError};
use crate::run::plan::PageRequest;
use crate::settings::SourceSettings;
use crate::transform::page::Page;
use crate::transform::random_user::{self, ExpectedPage, ReplyError};

/// Asks for one page.
pub trait UserApi {
    /// Asks once.
    fn fetch(&self, request: &PageRequest) -> impl Future<Output = Result<Page, FetchError>> + Send;
}

/// A page was not had.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No connection came about, or it was lost before an answer.
    #[error("publisher_health the API")]
    Unreachable(#[source] reqwest::Error),
    /// The deadline passed before the last byte.
    #[error("no whole answer within {0:?}")]
    Timeout(Duration),
    /// The answer broke off.
    #[error("the answer broke off")]
    Truncated(#[source] reqwest::Error),
    /// The answer is larger than allowed.
    #[error("the answer is larger than {limit}")]
    TooLarge {
        /// What is allowed.
        limit: ByteSize,
    },
    /// The API said no.
    #[error("answered {status}")]
    Status {
        /// Its status, anything but 200.
        status: StatusCode,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// A 200 that isn't JSON, such as a challenge page.
    #[error("answered 200 with content that is not application/json")]
    ContentType,
    /// A 200 that isn't the page that was asked for.
    #[error("answered 200 with a reply that does not hold")]
    Reply(#[source] ReplyError),
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchAction {
    /// Ask again, so many times, after a back-off at least as long as this.
    Retry(Option<Duration>),
    /// The budget is spent, by our count or another's: wait, at least as long as this, and ask again.
    RateLimited(Option<Duration>),
    /// Asking again would change nothing.
    Fail,
}

impl FetchError {
    /// What this leads to.
    #[must_use]
    pub fn action(&self) -> FetchAction {
        match self {
            Self::Status { status, retry_after } => match status.as_u16() {
                429 => FetchAction::RateLimited(*retry_after),
                408 | 500.. => FetchAction::Retry(*retry_after),
                _ => FetchAction::Fail,
            },
            Self::Reply(ReplyError::Version { .. }) | Self::TooLarge { .. } => FetchAction::Fail,
            _ => FetchAction::Retry(None),
        }
    }

    /// Whether the API may have handed out the users, and taken them off the budget, all the same.
    #[must_use]
    pub fn may_have_consumed(&self) -> bool {
        !matches!(self, Self::Unreachable(_) | Self::Status { .. })
    }

    /// A short name for metrics: the status, or what came in place of one.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Unreachable(_) => "unreachable".to_owned(),
            Self::Timeout(_) => "timeout".to_owned(),
            Self::Truncated(_) => "truncated".to_owned(),
            Self::Status { status, .. } => status.as_str().to_owned(),
            Self::TooLarge { .. } | Self::ContentType | Self::Reply(_) => "odd".to_owned(),
        }
    }
}

/// The random-user API over HTTP.
pub struct HttpUserApi {
    client: Client,
    url: Url,
    version: String,
    request_timeout: Duration,
    max_response_size: ByteSize,
}

impl HttpUserApi {
    /// A client of the API; connects to nothing yet.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(settings: &SourceSettings) -> Result<Self, reqwest::Error> {
        let url = settings.url.url().clone();
        Ok(Self {
            client: http::client(&url, settings.connect_timeout, settings.request_timeout)?,
            url,
            version: settings.version.clone(),
            request_timeout: settings.request_timeout,
            max_response_size: settings.max_response_size,
        })
    }

    async fn send(&self, request: &PageRequest) -> Result<Response, reqwest::Error> {
        let query = [
            ("results", request.results.to_string()),
            ("page", request.page.to_string()),
            ("seed", request.seed.clone()),
        ];
        let get = self.client.get(self.url.clone()).query(&query);
        get.header(ACCEPT, model::headers::JSON).send().await
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
    async fn fetch(&self, request: &PageRequest) -> Result<Page, FetchError> {
        let sent = self.send(request).await;
        let response = sent.map_err(|error| self.transport_error(error, FetchError::Unreachable))?;
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
                BodyError::Read(error) => self.transport_error(error, FetchError::Truncated),
                BodyError::TooLarge { limit } => FetchError::TooLarge { limit },
            })?;
        let expected = ExpectedPage {
            version: &self.version,
            page: request.page,
            results: request.results,
        };
        random_user::page(&body, &expected).map_err(FetchError::Reply)
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
    fn each_failure_has_its_action() {
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
        assert_eq!(FetchError::ContentType.action(), FetchAction::Retry(None));
        assert_eq!(
            FetchError::Reply(ReplyError::Empty).action(),
            FetchAction::Retry(None)
        );
        let version = ReplyError::Version {
            asked: "1.4".into(),
            answered: "1.3".into(),
        };
        assert_eq!(FetchError::Reply(version).action(), FetchAction::Fail);
    }
}
