//! `GET /status` of the admin port: what this process knows about its work now, as one JSON document.
//!
//! Each part of a service adds the section that it knows. A section is read at each request, so it must be cheap.

pub mod last_minute;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

use self::last_minute::{LastMinute, SAMPLE_INTERVAL, Totals};
use crate::health::Health;

/// The sections of a process's status document, shared by the parts that add them and the admin server.
#[derive(Clone)]
pub struct Status {
    service: &'static str,
    started: Instant,
    sections: Arc<Mutex<Vec<Section>>>,
    sampled: Arc<Mutex<Vec<LastMinute>>>,
}

#[derive(Clone)]
struct Section {
    name: &'static str,
    read: Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>,
}

impl Status {
    /// A document without sections. `service` is the service's name.
    pub fn new(service: &'static str) -> Self {
        Self {
            service,
            started: Instant::now(),
            sections: Arc::default(),
            sampled: Arc::default(),
        }
    }

    /// Adds the section `name`, or replaces it. Each request for the document awaits `read`, which must not block.
    pub fn section<T, F>(&self, name: &'static str, read: impl Fn() -> F + Send + Sync + 'static)
    where
        T: Serialize,
        F: Future<Output = T> + Send + 'static,
    {
        let read = Arc::new(move || {
            let section = read();
            let json = async { serde_json::to_value(section.await).unwrap_or_default() };
            Box::pin(json) as Pin<Box<dyn Future<Output = Value> + Send>>
        });
        let mut sections = self.sections.lock().unwrap_or_else(PoisonError::into_inner);
        sections.retain(|section| section.name != name);
        sections.push(Section { name, read });
    }

    /// Returns the last minute of the metric that `read` reads. `read` must not block.
    pub fn last_minute(&self, read: impl Fn() -> Totals + Send + Sync + 'static) -> LastMinute {
        let minute = LastMinute::new(read, Instant::now());
        let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        sampled.push(minute.clone());
        minute
    }

    /// Samples the metrics of [`last_minute`](Self::last_minute) until it is dropped.
    pub async fn sample(&self) -> Infallible {
        loop {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            let sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            sampled.iter().for_each(|minute| minute.sample(now));
        }
    }

    /// The document: service, version, uptime, readiness with its reasons, and each section under its name.
    pub async fn document(&self, health: &Health) -> Value {
        let sections = self
            .sections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut document = Map::new();
        document.insert("service".to_owned(), self.service.into());
        document.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        document.insert(
            "uptime_seconds".to_owned(),
            self.started.elapsed().as_secs().into(),
        );
        if let Ok(Value::Object(readiness)) = serde_json::to_value(health.readiness()) {
            document.extend(readiness);
        }
        for Section { name, read } in sections {
            document.insert(name.to_owned(), read().await);
        }
        Value::Object(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn document_has_readiness_and_the_latest_section_of_each_name() {
        let health = Health::default();
        health.dependency("kafka").unready("connection refused");
        let status = Status::new("streamer");
        status.section("lag", || async { 7 });
        status.section("lag", || async { [1, 2] });
        let document = status.document(&health).await;
        assert_eq!(document["service"], "streamer");
        assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["ready"], false);
        assert_eq!(document["dependencies"][0]["reason"], "connection refused");
        assert_eq!(document["lag"], serde_json::json!([1, 2]));
    }
}
