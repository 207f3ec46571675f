//! What was answered under an idempotency key: a repeat hears the first answer and writes nothing. Bounded in
//! entries, in bytes and in age, and gone with the process. It decides by key and fingerprint alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::Told;
use crate::settings::IdempotencySettings;

/// The longest key, in bytes.
const LONGEST_KEY: usize = 255;

/// Who repeats what: the caller and the key, hashed so that each takes the same room.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// What was sent under a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Key {
    /// The key that `caller` gives; none when it is empty, too long, or not of visible ASCII characters.
    pub fn new(caller: &str, given: &HeaderValue) -> Option<Self> {
        let well_formed = (1..=LONGEST_KEY).contains(&given.len());
        let visible = given.as_bytes().iter().all(u8::is_ascii_graphic);
        (well_formed && visible).then(|| Self(hash(&[caller.as_bytes(), given.as_bytes()])))
    }
}

impl Fingerprint {
    /// Of a request with these parts.
    pub fn new(parts: &[&[u8]]) -> Self {
        Self(hash(parts))
    }
}

/// Each part goes with its length, so that no two lists of parts look the same.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// What is known of a key.
pub enum Claim {
    /// Nothing: it is this request's turn.
    First(Turn),
    /// The same request is being worked on. When the receiver ends, ask again.
    Busy(watch::Receiver<()>),
    /// It was answered.
    Told(Told),
    /// It was given with another body.
    Reused,
    /// There is no room to remember one more.
    Full,
}

/// Remembers answers. Clones share them.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
    settings: IdempotencySettings,
}

struct Inner {
    slots: HashMap<Key, Slot>,
    /// The keys that were answered, oldest first, each with the time of its answer.
    told: VecDeque<(Instant, Key)>,
    bytes: usize,
}

struct Slot {
    fingerprint: Fingerprint,
    state: State,
}

enum State {
    Busy(watch::Receiver<()>),
    Told(Told),
}

/// The right to work on a key. Dropped, the key is free again.
pub struct Turn {
    memory: Memory,
    key: Key,
    /// Its end wakes those who wait.
    _done: watch::Sender<()>,
}

impl Memory {
    /// Empty.
    pub fn new(settings: IdempotencySettings) -> Self {
        let inner = Inner {
            slots: HashMap::new(),
            told: VecDeque::new(),
            bytes: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            settings,
        }
    }

    /// Asks for `key`, at the time `now`.
    pub fn claim(&self, key: Key, fingerprint: Fingerprint, now: Instant) -> Claim {
        let mut inner = self.lock();
        inner.forget(|at| now.duration_since(at) >= self.settings.age);
        match inner.slots.get(&key) {
            Some(slot) if slot.fingerprint != fingerprint => return Claim::Reused,
            Some(slot) => {
                return match &slot.state {
                    State::Busy(done) => Claim::Busy(done.clone()),
                    State::Told(told) => Claim::Told(told.clone()),
                };
            }
            None => {}
        }
        if inner.slots.len() >= self.settings.entries && !inner.forget_oldest() {
            return Claim::Full;
        }
        let (done, waiting) = watch::channel(());
        let state = State::Busy(waiting);
        inner.slots.insert(key, Slot { fingerprint, state });
        Claim::First(Turn {
            memory: self.clone(),
            key,
            _done: done,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No step below can panic half-way, so what a panic elsewhere left is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Keeps the answer, given at the time `now`. The oldest ones make room for it; one that is larger than all the
    /// room is not kept.
    pub fn remember(self, told: Told, now: Instant) {
        let room = usize::try_from(self.memory.settings.bytes.as_u64()).unwrap_or(usize::MAX);
        let size = told.size();
        let mut inner = self.memory.lock();
        if size > room {
            return;
        }
        while inner.bytes + size > room && inner.forget_oldest() {}
        if let Some(slot) = inner.slots.get_mut(&self.key) {
            slot.state = State::Told(told);
            inner.bytes += size;
            inner.told.push_back((now, self.key));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.memory.lock();
        let unanswered = |slot: &Slot| matches!(slot.state, State::Busy(_));
        if inner.slots.get(&self.key).is_some_and(unanswered) {
            inner.slots.remove(&self.key);
        }
    }
}

impl Inner {
    fn forget(&mut self, too_old: impl Fn(Instant) -> bool) {
        while self.told.front().is_some_and(|(at, _)| too_old(*at)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, key)) = self.told.pop_front() else {
            return false;
        };
        if let Some(Slot {
            state: State::Told(told),
            ..
        }) = self.slots.remove(&key)
        {
            self.bytes -= told.size();
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
    use crate::preference::Preference;

    fn memory() -> Memory {
        Memory::new(IdempotencySettings {
            entries: 2,
            bytes: ByteSize(1_000),
            age: Duration::from_secs(60),
        })
    }

    fn key(name: &'static str) -> Key {
        Key::new("caller", &HeaderValue::from_static(name)).unwrap()
    }

    fn body(text: &str) -> Fingerprint {
        Fingerprint::new(&[text.as_bytes()])
    }

    fn told(size: usize) -> Told {
        Told::new(StatusCode::OK, vec![b'x'; size].into(), Preference::Counts)
    }

    fn first(memory: &Memory, name: &'static str) -> Turn {
        match memory.claim(key(name), body("b"), Instant::now()) {
            Claim::First(turn) => turn,
            _ => panic!("{name} is not new"),
        }
    }

    #[test]
    fn a_key_belongs_to_its_caller_and_is_visible_text() {
        let given = HeaderValue::from_static("k");
        assert!(Key::new("a", &given) != Key::new("b", &given));
        for malformed in ["", "a b", "ä"] {
            let given = HeaderValue::from_bytes(malformed.as_bytes()).unwrap();
            assert!(Key::new("a", &given).is_none());
        }
        assert!(Fingerprint::new(&[b"ab", b"c"]) != Fingerprint::new(&[b"a", b"bc"]));
    }

    #[tokio::test]
    async fn a_repeat_waits_for_the_first_and_hears_its_answer() {
        let memory = memory();
        let turn = first(&memory, "k");
        let Claim::Busy(mut done) = memory.claim(key("k"), body("b"), Instant::now()) else {
            panic!("the first is still busy")
        };
        turn.remember(told(9), Instant::now());
        assert!(done.changed().await.is_err(), "the end wakes");
        let Claim::Told(told) = memory.claim(key("k"), body("b"), Instant::now()) else {
            panic!("it was answered")
        };
        assert_eq!(told.size(), 9);
        assert!(matches!(
            memory.claim(key("k"), body("other"), Instant::now()),
            Claim::Reused
        ));
    }

    #[test]
    fn what_was_not_answered_can_be_tried_again() {
        let memory = memory();
        drop(first(&memory, "k"));
        drop(first(&memory, "k"));
    }

    #[test]
    fn the_oldest_answers_make_room_and_those_in_work_never_do() {
        let memory = memory();
        let now = Instant::now();
        first(&memory, "a").remember(told(600), now);
        first(&memory, "b").remember(told(600), now);
        drop(first(&memory, "a"));
        assert!(matches!(memory.claim(key("b"), body("b"), now), Claim::Told(_)));
        let _c = first(&memory, "c");
        let _d = first(&memory, "d");
        assert!(matches!(memory.claim(key("e"), body("b"), now), Claim::Full));
        assert_eq!(memory.lock().bytes, 0);
    }

    #[test]
    fn an_answer_is_forgotten_with_age_or_when_it_is_larger_than_all_room() {
        let memory = memory();
        let now = Instant::now();
        first(&memory, "a").remember(told(9), now);
        let later = now + Duration::from_secs(60);
        let Claim::First(turn) = memory.claim(key("a"), body("x"), later) else {
            panic!("it is forgotten")
        };
        turn.remember(told(1_001), later);
        assert!(matches!(
            memory.claim(key("a"), body("x"), later),
            Claim::First(_)
        ));
        assert_eq!(memory.lock().bytes, 0);
    }
}
