//! `testkit random-user`: the offline random-user API, for scripts.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use serde_json::json;

use super::interrupt::interrupted;
use crate::randomuser::{
    ApiStartError, Fault, Options, ParseFaultError, RandomUserApi, RateLimit, RateLimitReply,
};

/// Serves generated people like the random-user API. The first line of output is its address as JSON.
#[derive(Debug, Args)]
pub(super) struct RandomUserCommand {
    /// Listen address; port 0 for a free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Folder of stored responses to serve instead of generated people.
    #[arg(long, value_name = "FOLDER")]
    samples: Option<PathBuf>,
    /// Users per client address and window; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = RateLimit::default().users)]
    rate_limit: usize,
    /// Length of that window: 5m, 10s.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    rate_limit_window: Duration,
    /// Response above the limit.
    #[arg(long, value_name = "STATUS", value_enum, default_value = "429")]
    rate_limit_status: RateLimitStatus,
    /// Seed of the seeds for requests without one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rng_seed: u64,
    /// Faults of the first requests, in this order: hang:2s, unavailable*3, broken_record:missing_email.
    #[arg(long, value_name = "FAULT[*TIMES]")]
    fault: Vec<Repeated>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RateLimitStatus {
    #[value(name = "429")]
    TooManyRequests,
    #[value(name = "503")]
    Unavailable,
}

/// A fault and the number of requests that it applies to.
#[derive(Clone, Debug)]
struct Repeated {
    fault: Fault,
    times: u32,
}

impl FromStr for Repeated {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, ParseFaultError> {
        let Some((fault, times)) = text.rsplit_once('*') else {
            return Ok(Self {
                fault: text.parse()?,
                times: 1,
            });
        };
        let wrong = || ParseFaultError::WrongValue {
            fault: fault.into(),
            value: times.into(),
        };
        Ok(Self {
            fault: fault.parse()?,
            times: times.parse().map_err(|_| wrong())?,
        })
    }
}

fn duration(text: &str) -> Result<Duration, jiff::Error> {
    text.parse::<SignedDuration>()?.try_into()
}

impl RandomUserCommand {
    /// Serves until Ctrl-C or SIGTERM.
    pub(super) async fn run(self) -> Result<ExitCode, ApiStartError> {
        let api = RandomUserApi::start(self.options()).await?;
        for Repeated { fault, times } in self.fault {
            api.inject(fault, times);
        }
        println!(
            "{}",
            json!({ "address": api.address().to_string(), "url": api.url() })
        );
        interrupted().await;
        api.stop().await;
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self) -> Options {
        let reply = match self.rate_limit_status {
            RateLimitStatus::TooManyRequests => RateLimitReply::TooManyRequests,
            RateLimitStatus::Unavailable => RateLimitReply::Unavailable,
        };
        let rate_limit = RateLimit {
            users: self.rate_limit,
            window: self.rate_limit_window,
            reply,
        };
        Options {
            listen: self.listen,
            rate_limit: (self.rate_limit > 0).then_some(rate_limit),
            rng_seed: self.rng_seed,
            samples: self.samples.clone(),
            ..Options::default()
        }
    }
}
