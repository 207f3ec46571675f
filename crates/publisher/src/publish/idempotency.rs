//! The cache of responses by idempotency key: a retry gets the first response and writes nothing.
//!
//! Limited in entries, bytes and age; in memory only.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::response::CachedResponse;
use crate::config::IdempotencySettings;

/// The longest key, in bytes.
const MAX_KEY: usize = 255;

/// The caller and its idempotency key, hashed to a fixed size.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey([u8; 32]);

/// The hash of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl IdempotencyKey {
    /// The key of `caller`; none if it is empty, too long, or has other than visible ASCII characters.
    pub fn new(caller: &str, value: &HeaderValue) -> Option<Self> {
        let length_valid = (1..=MAX_KEY).contains(&value.len());
        let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
        (length_valid && visible).then(|| Self(hash(&[caller.as_bytes(), value.as_bytes()])))
    }
}

impl Fingerprint {
    /// The fingerprint of a request with these parts.
    pub fn new(parts: &[&[u8]]) -> Self {
        Self(hash(parts))
    }
}

/// Hashes each part with its length, so that no two lists of parts are hashed alike.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The state of a key.
pub enum Claim {
    /// The key is new; the request has to be processed.
    New(InFlightGuard),
    /// The same request is in progress. The channel closes when it has finished.
    InProgress(watch::Receiver<()>),
    /// The same request has been processed, with this response.
    Replay(CachedResponse),
    /// The key was used with another body.
    Conflict,
    /// The cache is full of requests in progress.
    Full,
}

/// The cache. Clones share it.
#[derive(Clone)]
pub struct IdempotencyCache {
    inner: Arc<Mutex<CacheInner>>,
    settings: IdempotencySettings,
}

struct CacheInner {
    entries: HashMap<IdempotencyKey, CacheEntry>,
    /// The keys with a response, oldest first, each with the time of its response.
    by_age: VecDeque<(Instant, IdempotencyKey)>,
    bytes: usize,
}

struct CacheEntry {
    fingerprint: Fingerprint,
    state: EntryState,
}

enum EntryState {
    InProgress(watch::Receiver<()>),
    Finished(CachedResponse),
}

/// The right to process a key. If dropped without a response, the key is free again.
pub struct InFlightGuard {
    cache: IdempotencyCache,
    key: IdempotencyKey,
    /// Closing the channel wakes the waiting retries.
    _finished: watch::Sender<()>,
}

impl IdempotencyCache {
    /// An empty cache.
    pub fn new(settings: IdempotencySettings) -> Self {
        let inner = CacheInner {
            entries: HashMap::new(),
            by_age: VecDeque::new(),
            bytes: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            settings,
        }
    }

    /// Claims `key` at the time `now`.
    pub fn claim(&self, key: IdempotencyKey, fingerprint: Fingerprint, now: Instant) -> Claim {
        let mut inner = self.lock();
        inner.evict_older(|at| now.duration_since(at) >= self.settings.age);
        match inner.entries.get(&key) {
            Some(entry) if entry.fingerprint != fingerprint => return Claim::Conflict,
            Some(entry) => {
                return match &entry.state {
                    EntryState::InProgress(finished) => Claim::InProgress(finished.clone()),
                    EntryState::Finished(response) => Claim::Replay(response.clone()),
                };
            }
            None => {}
        }
        if inner.entries.len() >= self.settings.entries && !inner.evict_oldest() {
            return Claim::Full;
        }
        let (sender, finished) = watch::channel(());
        let state = EntryState::InProgress(finished);
        inner.entries.insert(key, CacheEntry { fingerprint, state });
        Claim::New(InFlightGuard {
            cache: self.clone(),
            key,
            _finished: sender,
        })
    }

    /// Whether a request with this key has been processed or is in progress.
    pub fn contains(&self, key: &IdempotencyKey) -> bool {
        self.lock().entries.contains_key(key)
    }

    fn lock(&self) -> MutexGuard<'_, CacheInner> {
        // No code below panics half-way, so the data is valid even if the lock is poisoned.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlightGuard {
    /// Stores the response, sent at the time `now`, and evicts the oldest ones to make room for it. A response that
    /// is larger than the cache is not stored.
    pub fn store(self, response: CachedResponse, now: Instant) {
        let max_bytes = usize::try_from(self.cache.settings.bytes.as_u64()).unwrap_or(usize::MAX);
        let size = response.size();
        let mut inner = self.cache.lock();
        if size > max_bytes {
            return;
        }
        while inner.bytes + size > max_bytes && inner.evict_oldest() {}
        if let Some(entry) = inner.entries.get_mut(&self.key) {
            entry.state = EntryState::Finished(response);
            inner.bytes += size;
            inner.by_age.push_back((now, self.key));
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut inner = self.cache.lock();
        let in_progress = |entry: &CacheEntry| matches!(entry.state, EntryState::InProgress(_));
        if inner.entries.get(&self.key).is_some_and(in_progress) {
            inner.entries.remove(&self.key);
        }
    }
}

impl CacheInner {
    fn evict_older(&mut self, expired: impl Fn(Instant) -> bool) {
        while self.by_age.front().is_some_and(|(at, _)| expired(*at)) {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) -> bool {
        let Some((_, key)) = self.by_age.pop_front() else {
            return false;
        };
        if let Some(CacheEntry {
            state: EntryState::Finished(response),
            ..
        }) = self.entries.remove(&key)
        {
            self.bytes -= response.size();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::StatusCode;
    use bytesize::ByteSize;

    use super::*;
    use crate::request::preference::Preference;

    fn cache() -> IdempotencyCache {
        IdempotencyCache::new(IdempotencySettings {
            entries: 2,
            bytes: ByteSize(1_000),
            age: Duration::from_secs(60),
        })
    }

    fn key(name: &'static str) -> IdempotencyKey {
        IdempotencyKey::new("caller", &HeaderValue::from_static(name)).unwrap()
    }

    fn body(text: &str) -> Fingerprint {
        Fingerprint::new(&[text.as_bytes()])
    }

    fn response(size: usize) -> CachedResponse {
        CachedResponse::new(StatusCode::OK, vec![b'x'; size].into(), Preference::Minimal)
    }

    fn new(cache: &IdempotencyCache, name: &'static str) -> InFlightGuard {
        match cache.claim(key(name), body("b"), Instant::now()) {
            Claim::New(guard) => guard,
            _ => panic!("{name} is not new"),
        }
    }

    #[test]
    fn key_is_scoped_to_its_caller_and_visible_ascii() {
        let value = HeaderValue::from_static("k");
        assert!(IdempotencyKey::new("a", &value) != IdempotencyKey::new("b", &value));
        for malformed in ["", "a b", "ä"] {
            let value = HeaderValue::from_bytes(malformed.as_bytes()).unwrap();
            assert!(IdempotencyKey::new("a", &value).is_none());
        }
        assert!(Fingerprint::new(&[b"ab", b"c"]) != Fingerprint::new(&[b"a", b"bc"]));
    }

    #[tokio::test]
    async fn retry_waits_and_gets_the_first_response() {
        let cache = cache();
        assert!(!cache.contains(&key("k")));
        let guard = new(&cache, "k");
        assert!(cache.contains(&key("k")));
        let Claim::InProgress(mut finished) = cache.claim(key("k"), body("b"), Instant::now()) else {
            panic!("the first request is in progress")
        };
        guard.store(response(9), Instant::now());
        assert!(finished.changed().await.is_err(), "the channel is closed");
        let Claim::Replay(response) = cache.claim(key("k"), body("b"), Instant::now()) else {
            panic!("the response is stored")
        };
        assert_eq!(response.size(), 9);
        assert!(matches!(
            cache.claim(key("k"), body("other"), Instant::now()),
            Claim::Conflict
        ));
    }

    #[test]
    fn dropped_guard_frees_the_key() {
        let cache = cache();
        drop(new(&cache, "k"));
        drop(new(&cache, "k"));
    }

    #[test]
    fn oldest_responses_are_evicted_but_not_requests_in_progress() {
        let cache = cache();
        let now = Instant::now();
        new(&cache, "a").store(response(600), now);
        new(&cache, "b").store(response(600), now);
        drop(new(&cache, "a"));
        assert!(matches!(cache.claim(key("b"), body("b"), now), Claim::Replay(_)));
        let _c = new(&cache, "c");
        let _d = new(&cache, "d");
        assert!(matches!(cache.claim(key("e"), body("b"), now), Claim::Full));
        assert_eq!(cache.lock().bytes, 0);
    }

    #[test]
    fn expired_and_oversized_responses_are_not_kept() {
        let cache = cache();
        let now = Instant::now();
        new(&cache, "a").store(response(9), now);
        let later = now + Duration::from_secs(60);
        let Claim::New(guard) = cache.claim(key("a"), body("x"), later) else {
            panic!("the response has expired")
        };
        guard.store(response(1_001), later);
        assert!(matches!(cache.claim(key("a"), body("x"), later), Claim::New(_)));
        assert_eq!(cache.lock().bytes, 0);
    }
}
