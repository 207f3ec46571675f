//! W3C Trace Context: the ids of a span and the sampling decision. Derives the ids of a run, so that each process that
//! works on it continues the same trace.
//!
//! Pure.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The length of a `traceparent`, in bytes.
pub const TRACEPARENT_LENGTH: usize = 55;

/// The flag of a sampled trace.
const SAMPLED: u8 = 1;

/// The id of a trace. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId([u8; 16]);

/// The id of a span. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId([u8; 8]);

/// The ids of a span, and whether its trace is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether spans of the trace are exported.
    pub sampled: bool,
}

impl TraceId {
    /// A random id.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<u128>().max(1).to_be_bytes())
    }

    /// The trace of a run: the digits of its uuid, so that the run's id finds the trace. Any other id is hashed.
    #[must_use]
    pub fn of_run(run: &str) -> Self {
        uuid(run).unwrap_or_else(|| {
            let hash: [u8; 32] = Sha256::digest(run).into();
            let (id, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
            Self(*id)
        })
    }

    /// The bytes of the id.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }
}

/// Reads 32 hexadecimal digits in the groups of a uuid.
fn uuid(text: &str) -> Option<TraceId> {
    let groups: Vec<_> = text.split('-').collect();
    let lengths = groups.iter().map(|group| group.len());
    if !lengths.eq([8, 4, 4, 4, 12]) {
        return None;
    }
    TraceId::new(hex(groups.concat().to_ascii_lowercase().as_bytes())?)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl SpanId {
    /// A random id.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<u64>().max(1).to_be_bytes())
    }

    /// The id of the span with this name and number in a trace, the same in each process.
    #[must_use]
    pub fn derived(trace: TraceId, name: &str, number: u64) -> Self {
        let hash = Sha256::new()
            .chain_update(trace.0)
            .chain_update(number.to_be_bytes())
            .chain_update(name);
        let hash: [u8; 32] = hash.finalize().into();
        let (id, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        Self(u64::from_be_bytes(*id).max(1).to_be_bytes())
    }

    /// The bytes of the id.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl TraceContext {
    /// Reads a `traceparent`. A later version than 00 may have more fields, which are ignored.
    #[must_use]
    pub fn parse(traceparent: &[u8]) -> Option<Self> {
        let (fields, rest) = traceparent.split_at_checked(TRACEPARENT_LENGTH)?;
        let parts: Vec<_> = fields.split(|byte| *byte == b'-').collect();
        let [version, trace, span, flags] = parts[..] else {
            return None;
        };
        let [version]: [u8; 1] = hex(version)?;
        let is_complete = match version {
            0 => rest.is_empty(),
            u8::MAX => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let [flags]: [u8; 1] = hex(flags)?;
        let (trace, span) = (TraceId::new(hex(trace)?)?, hex(span)?);
        (is_complete && span != [0; 8]).then_some(Self {
            trace,
            span: SpanId(span),
            sampled: flags & SAMPLED != 0,
        })
    }

    /// The `traceparent` of a request that the span sends.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let flags = if self.sampled { SAMPLED } else { 0 };
        format!(
            "00-{}-{:016x}-{flags:02x}",
            self.trace,
            u64::from_be_bytes(self.span.0)
        )
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn with_span(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

/// Reads lower-case hexadecimal digits, two for each byte.
fn hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Samples a share of the traces. The decision depends on the last 56 bits of the id alone, as in OpenTelemetry's
/// consistent probability sampling. So every service with the same ratio decides alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampler {
    /// Ids from it on are sampled.
    threshold: u64,
}

/// The number of values of 56 bits.
const RANDOM_VALUES: u64 = 1 << 56;

impl Sampler {
    /// Samples `ratio` of the traces, from 0 to 1.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the result is between 0 and 2^56"
    )]
    pub(super) fn new(ratio: f64) -> Self {
        let threshold = (1.0 - ratio.clamp(0.0, 1.0)) * RANDOM_VALUES as f64;
        Self {
            threshold: threshold as u64,
        }
    }

    pub(super) fn samples(self, trace: TraceId) -> bool {
        let (_, last) = trace.0.split_last_chunk().expect("an id has 16 bytes");
        u64::from_be_bytes(*last) % RANDOM_VALUES >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<TraceContext> {
        TraceContext::parse(text.as_bytes())
    }

    #[test]
    fn traceparent_is_read_and_written() {
        let context = parse(TRACEPARENT).unwrap();
        assert!(context.sampled);
        assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.traceparent(), TRACEPARENT);
        let unsampled = parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02").unwrap();
        assert!(!unsampled.sampled && unsampled.traceparent().ends_with("-00"));
    }

    #[test]
    fn later_version_may_have_more_fields() {
        let later = TRACEPARENT.replacen("00", "cc", 1);
        assert_eq!(parse(&later), parse(TRACEPARENT));
        assert_eq!(parse(&format!("{later}-more")), parse(TRACEPARENT));
        assert_eq!(parse(&format!("{later}.more")), None);
    }

    #[test]
    fn invalid_traceparent_is_refused() {
        for invalid in [
            "",
            "x",
            &TRACEPARENT[1..],
            &TRACEPARENT.to_uppercase(),
            &format!("{TRACEPARENT}-more"),
            &TRACEPARENT.replacen("00", "ff", 1),
            &TRACEPARENT.replace("00f067aa0ba902b7", "0000000000000000"),
            &TRACEPARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        ] {
            assert_eq!(parse(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn run_has_one_trace_in_every_process() {
        let run = "0195D0B1-7a4c-7f3e-9b1a-2c3d4e5f6071";
        let trace = TraceId::of_run(run);
        assert_eq!(trace.to_string(), "0195d0b17a4c7f3e9b1a2c3d4e5f6071");
        let other = TraceId::of_run("nightly-7");
        assert_eq!(other, TraceId::of_run("nightly-7"));
        assert_ne!(other, TraceId::of_run("nightly-8"));
        assert_eq!(
            SpanId::derived(trace, "page", 7),
            SpanId::derived(trace, "page", 7)
        );
        let ids = [("page", 7), ("page", 8), ("send", 7)].map(|(name, n)| SpanId::derived(trace, name, n));
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
    }

    #[test]
    fn share_of_traces_is_sampled_and_a_higher_ratio_adds_to_it() {
        let ids: Vec<_> = (0..10_000)
            .map(|n| TraceId::of_run(&format!("run {n}")))
            .collect();
        let sampled = |ratio| {
            let sampler = Sampler::new(ratio);
            ids.iter()
                .filter(move |id| sampler.samples(**id))
                .collect::<Vec<_>>()
        };
        assert_eq!((sampled(0.0).len(), sampled(1.0).len()), (0, 10_000));
        let (few, more) = (sampled(0.01), sampled(0.1));
        assert!((50..150).contains(&few.len()) && (800..1_200).contains(&more.len()));
        assert!(few.iter().all(|id| more.contains(id)));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let _ = TraceContext::parse(&text);
        }

        #[test]
        fn written_traceparent_is_read(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let context = TraceContext {
                trace: TraceId(trace.to_be_bytes()),
                span: SpanId(span.to_be_bytes()),
                sampled,
            };
            prop_assert_eq!(parse(&context.traceparent()), Some(context));
        }
    }
}
