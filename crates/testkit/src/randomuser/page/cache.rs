//! A cache of generated pages, so that benches do not measure their generation. A page is a function of its key.

use std::collections::{HashMap, VecDeque};

use axum::body::Bytes;

/// The latest pages, up to a size.
#[derive(Debug)]
pub(crate) struct PageCache {
    /// Maximum size in bytes; 0 disables the cache.
    capacity: usize,
    size: usize,
    pages: HashMap<String, Bytes>,
    /// Keys, oldest first.
    keys: VecDeque<String>,
}

impl PageCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            size: 0,
            pages: HashMap::new(),
            keys: VecDeque::new(),
        }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.capacity > 0
    }

    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        self.pages.get(key).cloned()
    }

    /// Adds a page and evicts the oldest ones. Ignores a page above the capacity.
    pub(crate) fn insert(&mut self, key: String, page: Bytes) {
        if page.len() > self.capacity || self.pages.contains_key(&key) {
            return;
        }
        while self.size + page.len() > self.capacity {
            let Some(oldest) = self.keys.pop_front() else {
                return;
            };
            self.size -= self.pages.remove(&oldest).map_or(0, |page| page.len());
        }
        self.size += page.len();
        self.keys.push_back(key.clone());
        self.pages.insert(key, page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(length: usize) -> Bytes {
        vec![b' '; length].into()
    }

    #[test]
    fn oldest_pages_are_evicted() {
        let mut cache = PageCache::new(10);
        for name in ["a", "b", "c", "c"] {
            cache.insert(name.to_owned(), page(4));
        }
        assert!(cache.get("a").is_none());
        assert!(cache.get("b").is_some() && cache.get("c").is_some());
        assert_eq!(cache.size, 8);
        cache.insert("huge".to_owned(), page(11));
        assert!(cache.get("huge").is_none() && cache.get("b").is_some());
    }

    #[test]
    fn cache_without_capacity_is_disabled() {
        let mut cache = PageCache::new(0);
        cache.insert("a".to_owned(), page(1));
        assert!(!cache.is_enabled() && cache.get("a").is_none());
    }
}
