//! Samples the health endpoints of a process.

use std::collections::BTreeMap;
use std::time::Instant;

use reqwest::Client;
use serde_json::Value;

use crate::evidence::health::HealthSample;

/// Samples a process. The three requests are independent, because a process may respond to some of them only.
pub(crate) async fn probe(client: &Client, admin: &str, started: Instant) -> HealthSample {
    let at = started.elapsed().as_secs_f64();
    let get = async |path: &str| {
        let response = client.get(format!("{admin}{path}")).send().await.ok()?;
        let status = response.status();
        Some((status.is_success(), response.text().await.ok()?))
    };
    let (alive, ready, metrics) = tokio::join!(get("/healthz"), get("/readyz"), get("/metrics"));
    HealthSample {
        at,
        alive: alive.map(|(alive, _)| alive),
        missing: ready.as_ref().map(|(_, text)| missing(text)).unwrap_or_default(),
        ready: ready.map(|(ready, _)| ready),
        metrics: metrics.map(|(_, text)| sums(&text)).unwrap_or_default(),
    }
}

/// The dependencies that are not ready.
fn missing(readiness: &str) -> Vec<String> {
    let readiness: Value = serde_json::from_str(readiness).unwrap_or_default();
    let dependencies = readiness["dependencies"].as_array().cloned().unwrap_or_default();
    dependencies
        .iter()
        .filter(|dependency| dependency["ready"] == false)
        .filter_map(|dependency| Some(dependency["name"].as_str()?.to_owned()))
        .collect()
}

/// The sum of each metric's series, and each labelled series. Of histograms, only sum and count.
fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = series.split('{').next().unwrap_or(series);
        if let (false, Ok(value)) = (name.ends_with("_bucket"), value.parse::<f64>()) {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
            if name != series {
                sums.insert(series.to_owned(), value);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_without_buckets() {
        let text = "# HELP x y\nx{a=\"1\"} 1\nx{a=\"2\"} 2\ny_bucket{le=\"1\"} 9\ny_count 4\n";
        let expected = [
            ("x", 3.0),
            ("x{a=\"1\"}", 1.0),
            ("x{a=\"2\"}", 2.0),
            ("y_count", 4.0),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(sums(text), BTreeMap::from(expected));
    }

    #[test]
    fn dependencies_that_are_not_ready_are_missing() {
        let text = r#"{"ready":false,"dependencies":[{"name":"kafka","ready":true},{"name":"cassandra","ready":false}]}"#;
        assert_eq!(missing(text), ["cassandra"]);
        assert!(missing("no JSON").is_empty());
    }
}
