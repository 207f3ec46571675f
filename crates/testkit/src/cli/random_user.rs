//! `testkit random-user`: the offline random-user API, for scripts.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::randomuser::{Budget, Fault, Options, ParseFaultError, RandomUserApi, Refusal, StartError};

/// Serves made-up people as the random-user API would; its first line of output is its address as JSON.
#[derive(Debug, Args)]
pub(super) struct RandomUserCommand {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Folder of whole replies to serve in place of made-up people.
    #[arg(long, value_name = "FOLDER")]
    samples: Option<PathBuf>,
    /// Users per client address and window; 0 for as many as asked.
    #[arg(long, value_name = "N", default_value_t = Budget::default().users)]
    budget: usize,
    /// Length of that window: 5m, 10s.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    budget_window: Duration,
    /// Answer to a spent budget.
    #[arg(long, value_name = "STATUS", value_enum, default_value = "429")]
    budget_status: BudgetStatus,
    /// Draws other seeds for requests without one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rng_seed: u64,
    /// What befalls the first requests, in this order: hang:2s, unavailable*3, broken_record:missing_email.
    #[arg(long, value_name = "FAULT[*TIMES]")]
    fault: Vec<Repeated>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BudgetStatus {
    #[value(name = "429")]
    TooManyRequests,
    #[value(name = "503")]
    Unavailable,
}

/// A fault and how many requests it befalls.
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
    pub(super) async fn run(self) -> Result<ExitCode, StartError> {
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
        let refusal = match self.budget_status {
            BudgetStatus::TooManyRequests => Refusal::TooManyRequests,
            BudgetStatus::Unavailable => Refusal::Unavailable,
        };
        let budget = Budget {
            users: self.budget,
            window: self.budget_window,
            refusal,
        };
        Options {
            listen: self.listen,
            budget: (self.budget > 0).then_some(budget),
            rng_seed: self.rng_seed,
            samples: self.samples.clone(),
            ..Options::default()
        }
    }
}

/// Where a handler can't be installed the signal ends the process anyway, only less orderly.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
