//! The pages that a run requests. Pure; the same seed gives the same pages, so that a run can be repeated.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// Highest page number of the API. The API silently returns page 1 for higher numbers.
const LAST_PAGE: u64 = 10_000;

/// Maximum number of users of a run.
pub const MAX_USERS: u64 = 1_000_000_000;

/// Seed of the API's generator: 1 to 64 letters, digits, `.`, `_` or `-`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Seed(String);

impl Seed {
    /// Returns a new seed: the first 64 bits of a random UUID.
    #[must_use]
    pub fn random() -> Self {
        let mut text = Uuid::new_v4().simple().to_string();
        text.truncate(16);
        Self(text)
    }

    /// Returns the seed that follows this one after [`LAST_PAGE`] pages. The API appends the page number to the seed, so the
    /// dot separates page 12 of `s` from page 2 of the successor.
    fn successor(&self, number: u64) -> String {
        if number == 0 {
            self.0.clone()
        } else {
            format!("{}.{number}.", self.0)
        }
    }
}

impl FromStr for Seed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a seed has 1 to 64 letters, digits, dots, underscores or hyphens")
        }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Request for one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Seed of the generator.
    pub seed: String,
    /// Page number, 1 to 10,000.
    pub page: u32,
    /// Number of users, 1 to 5,000.
    pub results: u32,
}

/// A range of pages, written `FIRST..LAST`. Pages count from 1; both ends are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    first: u64,
    last: u64,
}

impl PageRange {
    /// Creates a range, or returns `None` if it is empty or starts at 0.
    #[must_use]
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (1 <= first && first <= last).then_some(Self { first, last })
    }

    /// The first page.
    #[must_use]
    pub fn first(self) -> u64 {
        self.first
    }

    /// The last page.
    #[must_use]
    pub fn last(self) -> u64 {
        self.last
    }
}

impl FromStr for PageRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text
            .split_once("..")
            .and_then(|(first, last)| Self::new(first.trim().parse().ok()?, last.trim().parse().ok()?));
        range.ok_or("pages must be FIRST..LAST with FIRST from 1, such as 3..7")
    }
}

impl Serialize for PageRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PageRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.last)
    }
}

/// The pages of one run.
#[derive(Clone, Debug)]
pub struct PagePlan {
    seed: Seed,
    users: u64,
    page_size: u32,
    only: Option<PageRange>,
}

impl PagePlan {
    /// Creates a plan of `users` users in pages of `page_size` (1 or more). The last page may be smaller.
    #[must_use]
    pub fn new(seed: Seed, users: u64, page_size: u32) -> Self {
        Self {
            seed,
            users,
            page_size: page_size.max(1),
            only: None,
        }
    }

    /// Restricts the plan to a range of its pages.
    #[must_use]
    pub fn only(self, only: Option<PageRange>) -> Self {
        Self { only, ..self }
    }

    /// Returns the number of users on the planned pages.
    #[must_use]
    pub fn users(&self) -> u64 {
        let size = u64::from(self.page_size);
        let (first, end) = self.indices();
        let before = |index: u64| index.saturating_mul(size).min(self.users);
        before(end) - before(first)
    }

    /// Iterates over the pages in order.
    pub fn pages(&self) -> impl Iterator<Item = PageRequest> + '_ {
        let (first, end) = self.indices();
        (first..end).map_while(|index| self.page(index))
    }

    /// Returns the half-open range of page indices, counted from 0.
    fn indices(&self) -> (u64, u64) {
        let end = self.users.div_ceil(u64::from(self.page_size));
        self.only
            .map_or((0, end), |only| ((only.first - 1).min(end), only.last.min(end)))
    }

    /// Returns the page at `index`, counted from 0.
    fn page(&self, index: u64) -> Option<PageRequest> {
        let before = index.checked_mul(u64::from(self.page_size))?;
        let left = self.users.checked_sub(before).filter(|left| *left > 0)?;
        Some(PageRequest {
            seed: self.seed.successor(index / LAST_PAGE),
            page: u32::try_from(index % LAST_PAGE + 1).expect("a page number is at most 10,000"),
            results: u32::try_from(left).map_or(self.page_size, |left| left.min(self.page_size)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn plan(users: u64, page_size: u32) -> PagePlan {
        PagePlan::new("abc".parse().unwrap(), users, page_size)
    }

    #[test]
    fn last_page_holds_the_remaining_users() {
        let pages: Vec<_> = plan(11, 5)
            .pages()
            .map(|page| (page.page, page.results))
            .collect();
        assert_eq!(pages, [(1, 5), (2, 5), (3, 1)]);
        assert_eq!(plan(10, 5).pages().count(), 2);
    }

    #[test]
    fn page_after_10000_uses_the_successor_seed() {
        let pages: Vec<_> = plan(20_001, 1).pages().collect();
        assert_eq!((pages[9_999].seed.as_str(), pages[9_999].page), ("abc", 10_000));
        assert_eq!((pages[10_000].seed.as_str(), pages[10_000].page), ("abc.1.", 1));
        assert_eq!((pages[20_000].seed.as_str(), pages[20_000].page), ("abc.2.", 1));
        let generators: HashSet<_> = pages
            .iter()
            .map(|page| format!("{}{}", page.seed, page.page))
            .collect();
        assert_eq!(generators.len(), pages.len(), "every page has its own generator");
    }

    #[test]
    fn page_range_selects_the_same_pages_as_the_full_plan() {
        let all: Vec<_> = plan(11, 5).pages().collect();
        let some = |range: &str| plan(11, 5).only(Some(range.parse().unwrap()));
        assert_eq!(some("2..3").pages().collect::<Vec<_>>(), all[1..]);
        assert_eq!((some("2..3").users(), some("1..2").users()), (6, 10));
        assert_eq!((some("3..9").users(), some("4..9").users()), (1, 0));
        assert_eq!(some("4..9").pages().count(), 0);
        for text in ["", "1", "0..1", "2..1", "a..b", "1..", "-1..2"] {
            assert!(text.parse::<PageRange>().is_err(), "{text}");
        }
        assert_eq!("3..7".parse::<PageRange>().unwrap().to_string(), "3..7");
    }

    #[test]
    fn seed_is_validated() {
        for text in ["", "a b", "ä", "a&results=1", &"x".repeat(65)] {
            assert!(text.parse::<Seed>().is_err(), "{text}");
        }
        assert_eq!(Seed::random().to_string().len(), 16);
        assert_ne!(Seed::random(), Seed::random());
    }

    proptest! {
        #[test]
        fn pages_hold_the_requested_users_within_api_limits(users in 1_u64..100_000, size in 1_u32..=5_000) {
            let mut sum = 0;
            for page in plan(users, size).pages() {
                prop_assert!((1..=size).contains(&page.results) && (1..=10_000).contains(&page.page));
                sum += u64::from(page.results);
            }
            prop_assert_eq!(sum, users);
        }
    }
}
