//! Whole pages that were asked for before. A page is a function of what names it, so it need not be made again; a bench
//! whose API makes people up on the cores that it measures has their cost in its figures.

use std::collections::{HashMap, VecDeque};

use axum::body::Bytes;

/// The latest pages, as many as fit.
#[derive(Debug)]
pub(super) struct Memo {
    /// In bytes of their bodies; 0: nothing is remembered.
    room: usize,
    held: usize,
    pages: HashMap<String, Bytes>,
    /// In the order in which they came.
    names: VecDeque<String>,
}

impl Memo {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            held: 0,
            pages: HashMap::new(),
            names: VecDeque::new(),
        }
    }

    pub(super) fn remembers(&self) -> bool {
        self.room > 0
    }

    pub(super) fn find(&self, name: &str) -> Option<Bytes> {
        self.pages.get(name).cloned()
    }

    /// Keeps a page in place of the oldest ones; one that does not fit at all is not kept.
    pub(super) fn keep(&mut self, name: String, page: Bytes) {
        if page.len() > self.room || self.pages.contains_key(&name) {
            return;
        }
        while self.held + page.len() > self.room {
            let Some(oldest) = self.names.pop_front() else {
                return;
            };
            self.held -= self.pages.remove(&oldest).map_or(0, |page| page.len());
        }
        self.held += page.len();
        self.names.push_back(name.clone());
        self.pages.insert(name, page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(length: usize) -> Bytes {
        vec![b' '; length].into()
    }

    #[test]
    fn the_oldest_pages_make_room_for_new_ones() {
        let mut memo = Memo::new(10);
        for name in ["a", "b", "c", "c"] {
            memo.keep(name.to_owned(), page(4));
        }
        assert!(memo.find("a").is_none());
        assert!(memo.find("b").is_some() && memo.find("c").is_some());
        assert_eq!(memo.held, 8);
        memo.keep("huge".to_owned(), page(11));
        assert!(memo.find("huge").is_none() && memo.find("b").is_some());
    }

    #[test]
    fn nothing_is_remembered_without_room() {
        let mut memo = Memo::new(0);
        memo.keep("a".to_owned(), page(1));
        assert!(!memo.remembers() && memo.find("a").is_none());
    }
}
