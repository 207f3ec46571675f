//! Commands against a running service: start, cancel and retry runs, pause and resume the schedule. A client of its API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use service::output::{OutputError, print_line};
use service::process::{EXIT_CONFIG, ExitStatus};
use thiserror::Error;
use uuid::Uuid;

use crate::config::IngesterSettings;
use crate::http::direct_client;
use crate::http::endpoint::Endpoint;
use crate::run::plan::{MAX_USERS, PageRange, Seed};

/// Timeout of a request, to which the service responds at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the service is.
#[derive(Clone, Debug, Args)]
pub struct RemoteArguments {
    /// URL of the API, overrides api.listen
    #[arg(long, value_name = "URL", value_parser = Endpoint::parse)]
    url: Option<Endpoint>,
    /// File with the bearer token, if the service requires one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A command against the running service.
#[derive(Clone, Debug, Subcommand)]
pub enum RemoteRunCommand {
    /// Start a run
    #[command(after_help = "Example: ingester runs start --users 5000 --seed abc --token-file token")]
    Start {
        /// Number of users, overrides run.users
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_USERS))]
        users: Option<u64>,
        /// Seed, overrides run.seed
        #[arg(long, value_name = "S")]
        seed: Option<Seed>,
        /// Pages to fetch, counted from 1, both ends included
        #[arg(long, value_name = "A..B")]
        pages: Option<PageRange>,
        /// Where the service is
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Cancel a run; it delivers what it has fetched
    #[command(after_help = "Example: ingester runs cancel 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071 --force")]
    Cancel {
        /// Id of the run
        run: Uuid,
        /// Drop what is not delivered
        #[arg(long)]
        force: bool,
        /// Where the service is
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Fetch the pages that an ended run has not delivered
    #[command(after_help = "Example: ingester runs retry 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071")]
    Retry {
        /// Id of the run
        run: Uuid,
        /// Where the service is
        #[command(flatten)]
        remote: RemoteArguments,
    },
}

/// A command for the schedule of the running service.
#[derive(Clone, Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Show the schedule and its next starts as JSON
    #[command(after_help = "Example: ingester schedule show --url http://127.0.0.1:8081")]
    Show(RemoteArguments),
    /// Skip scheduled starts and retries until the schedule is resumed
    #[command(after_help = "Example: ingester schedule pause --token-file token")]
    Pause(RemoteArguments),
    /// Continue the schedule; starts during the pause are not caught up
    #[command(after_help = "Example: ingester schedule resume --token-file token")]
    Resume(RemoteArguments),
}

/// Error of a command against the running service.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The token file can't be read.
    #[error("failed to read the token file {}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The service does not respond.
    #[error("failed to reach the ingester at {url}")]
    Unreachable {
        /// The URL of the API.
        url: Url,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The service rejects the request.
    #[error("the ingester responded with {status}: {detail}")]
    Rejected {
        /// The status.
        status: u16,
        /// Detail or title of the problem document.
        detail: String,
    },
    /// Standard output can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ExitStatus for RemoteError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Token { .. } => EXIT_CONFIG,
            Self::Unreachable { .. } | Self::Rejected { .. } | Self::Output(_) => 1,
        }
    }
}

impl RemoteRunCommand {
    /// Performs the command and prints the run as one line of JSON.
    ///
    /// # Errors
    /// Returns any [`RemoteError`].
    pub async fn perform(&self, settings: &IngesterSettings) -> Result<(), RemoteError> {
        let run = match self {
            Self::Start {
                users,
                seed,
                pages,
                remote,
            } => {
                let body = json!({"users": users, "seed": seed, "pages": pages});
                let service = RemoteService::new(remote, settings)?;
                service.send(Method::POST, "v1/runs", Some(&body)).await?
            }
            Self::Cancel { run, force, remote } => {
                let service = RemoteService::new(remote, settings)?;
                let path = format!("v1/runs/{run}");
                let cancel = format!("{path}?force={force}");
                service.send(Method::DELETE, &cancel, None).await?;
                service.send(Method::GET, &path, None).await?
            }
            Self::Retry { run, remote } => {
                let service = RemoteService::new(remote, settings)?;
                service
                    .send(Method::POST, &format!("v1/runs/{run}/retry"), None)
                    .await?
            }
        };
        Ok(print_line(run)?)
    }
}

impl ScheduleCommand {
    /// Performs the command and prints the schedule as one line of JSON.
    ///
    /// # Errors
    /// Returns any [`RemoteError`].
    pub async fn perform(&self, settings: &IngesterSettings) -> Result<(), RemoteError> {
        let (remote, method, path) = match self {
            Self::Show(remote) => (remote, Method::GET, "v1/schedule"),
            Self::Pause(remote) => (remote, Method::POST, "v1/schedule/pause"),
            Self::Resume(remote) => (remote, Method::POST, "v1/schedule/resume"),
        };
        let schedule = RemoteService::new(remote, settings)?
            .send(method, path, None)
            .await?;
        Ok(print_line(schedule)?)
    }
}

/// A client of the service.
struct RemoteService {
    client: Client,
    url: Url,
    token: Option<String>,
}

impl RemoteService {
    fn new(arguments: &RemoteArguments, settings: &IngesterSettings) -> Result<Self, RemoteError> {
        let token = arguments.token_file.as_ref().map(|path| {
            let token = std::fs::read_to_string(path);
            token.map_err(|source| RemoteError::Token {
                path: path.clone(),
                source,
            })
        });
        let mut url = arguments
            .url
            .as_ref()
            .map_or_else(|| local_url(settings.api.listen), |url| url.url().clone());
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let client = direct_client(TIMEOUT, TIMEOUT);
        let client = client.map_err(|source| RemoteError::Unreachable {
            url: url.clone(),
            source,
        })?;
        Ok(Self {
            client,
            url,
            token: token.transpose()?.map(|token| token.trim().to_owned()),
        })
    }

    /// Returns the JSON document of a successful response; null without one.
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, RemoteError> {
        let unreachable = |source| RemoteError::Unreachable {
            url: self.url.clone(),
            source,
        };
        let url = self.url.join(path).expect("the paths are valid and relative");
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(document);
        }
        let detail = document["detail"].as_str().or(document["title"].as_str());
        Err(RemoteError::Rejected {
            status: status.as_u16(),
            detail: detail.unwrap_or("no problem document").to_owned(),
        })
    }
}

/// Returns the URL at which this machine reaches `listen`.
fn local_url(listen: SocketAddr) -> Url {
    let address = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    let url = format!("http://{}/", SocketAddr::new(address, listen.port()));
    url.parse().expect("an address is a valid host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_address_is_reached_by_loopback() {
        for (listen, expected) in [
            ("0.0.0.0:8081", "http://127.0.0.1:8081/"),
            ("[::]:8081", "http://[::1]:8081/"),
            ("192.0.2.1:80", "http://192.0.2.1/"),
        ] {
            assert_eq!(local_url(listen.parse().unwrap()).as_str(), expected);
        }
    }
}
