//! Parses and maps replies of the API on one thread, for benchmarks.
//!
//! `format_pages time SECONDS FILE…` prints the throughput in users per second as one line of JSON.
//! `format_pages lines FILE…` prints the records, one per line.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ingester::transform::mapping::Mapping;
use ingester::transform::page::Page;
use ingester::transform::random_user::{ExpectedPage, page};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct ReplyHeader {
    info: InfoHeader,
}

#[derive(Deserialize)]
struct InfoHeader {
    seed: String,
    results: u32,
    page: u32,
    version: String,
}

struct ReplyFile {
    body: Vec<u8>,
    info: InfoHeader,
}

impl ReplyFile {
    fn read(path: &str) -> Result<Self, String> {
        let body = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        let reply: ReplyHeader = serde_json::from_slice(&body).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self {
            body,
            info: reply.info,
        })
    }

    fn page(&self, mapping: &Mapping) -> Result<Page, String> {
        let expected = ExpectedPage {
            version: &self.info.version,
            seed: &self.info.seed,
            page: self.info.page,
            results: self.info.results,
        };
        page(&self.body, &expected, mapping).map_err(|error| error.to_string())
    }
}

fn time(replies: &[ReplyFile], mapping: &Mapping, length: Duration) -> Result<(), String> {
    let started = Instant::now();
    let mut users = 0;
    while started.elapsed() < length {
        for reply in replies {
            let page = reply.page(mapping)?;
            users += page.ids().len();
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 users")]
    let speed = users as f64 / started.elapsed().as_secs_f64();
    println!("{}", json!({"users_per_second": speed}));
    Ok(())
}

fn lines(replies: &[ReplyFile], mapping: &Mapping) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    for reply in replies {
        let page = reply.page(mapping)?;
        let all: Vec<_> = (0..page.ids().len()).collect();
        out.write_all(page.records(&all).lines())
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn run(arguments: &[String]) -> Result<(), String> {
    let mapping = Mapping::user().map_err(|error| error.to_string())?;
    let read = |paths: &[String]| {
        paths
            .iter()
            .map(|path| ReplyFile::read(path))
            .collect::<Result<Vec<_>, _>>()
    };
    match arguments {
        [command, seconds, paths @ ..] if command == "time" && !paths.is_empty() => {
            let seconds = seconds.parse().map_err(|_| "SECONDS must be a number")?;
            time(&read(paths)?, &mapping, Duration::from_secs_f64(seconds))
        }
        [command, paths @ ..] if command == "lines" && !paths.is_empty() => lines(&read(paths)?, &mapping),
        _ => Err("usage: format_pages time SECONDS FILE… | lines FILE…".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
