//! Settings of rate limits, size and admission limits, and the idempotency cache.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::config::Violations;

use crate::limits::cost::{RECORD_COST, REQUEST_COST};

/// Size limits of a request, and admission limits of all requests in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitSettings {
    /// The largest body after decompression.
    pub max_body: ByteSize,
    /// The largest record, as sent.
    pub max_record: ByteSize,
    /// The maximum number of records in one request.
    pub max_records: usize,
    /// The maximum bytes in flight: 4 KiB for each request, bodies of pending requests, 700 bytes for each of their records,
    /// large keys and errors, and unread responses. A request that does not fit gets 503.
    pub max_in_flight_bytes: ByteSize,
    /// The maximum number of records that Kafka has not acknowledged. A request that does not fit gets 503.
    pub max_in_flight_records: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            max_body: ByteSize::mib(16),
            max_record: ByteSize::kib(64),
            max_records: 20_000,
            max_in_flight_bytes: ByteSize::mib(32),
            max_in_flight_records: 50_000,
        }
    }
}

impl LimitSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require_positive(&self.max_record, "limits.max_record");
        violations.require_positive(&self.max_records, "limits.max_records");
        violations.require(
            self.max_record <= self.max_body,
            "limits.max_record",
            "must not be above limits.max_body",
        );
        let records = self
            .max_records
            .saturating_mul(RECORD_COST)
            .saturating_add(REQUEST_COST) as u64;
        violations.require(
            self.max_body.as_u64().saturating_add(records) <= self.max_in_flight_bytes.as_u64(),
            "limits.max_in_flight_bytes",
            "must be at least limits.max_body plus 700 bytes for each of limits.max_records plus 4 KiB, or the largest \
             request would never fit",
        );
        violations.require(
            self.max_records <= self.max_in_flight_records,
            "limits.max_in_flight_records",
            "must not be below limits.max_records, or the largest request would never fit",
        );
    }
}

/// The rate limit of each caller, identified by the name of its token. Zero disables a limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimitSettings {
    /// Requests a second.
    pub requests_per_second: u32,
    /// Bytes of bodies a second, as sent.
    pub bytes_per_second: ByteSize,
}

/// The cache of responses, which are replayed to requests with the same idempotency key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct IdempotencySettings {
    /// The maximum number of responses.
    pub entries: usize,
    /// The maximum size of all responses.
    pub bytes: ByteSize,
    /// How long a response is kept.
    #[serde(with = "service::duration")]
    pub age: Duration,
}

impl Default for IdempotencySettings {
    fn default() -> Self {
        Self {
            entries: 10_000,
            bytes: ByteSize::mib(8),
            age: Duration::from_secs(600),
        }
    }
}
