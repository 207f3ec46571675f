//! The API versions that are offered, each with its own people and its own shapes.

use std::fmt;

/// A version of the API. The same seed gives different people, and other ids, in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Version {
    /// Streets are one line, dates have whole seconds, e-mail addresses may hold any letter.
    V1_2,
    /// Postcodes of NL are integers; 17 nationalities.
    V1_3,
    /// What `/api/` without a version means; 21 nationalities.
    V1_4,
}

impl Version {
    pub(super) const LATEST: Self = Self::V1_4;

    /// Reads the path segment behind `/api/`.
    pub(super) fn of_segment(segment: &str) -> Option<Self> {
        [Self::V1_2, Self::V1_3, Self::V1_4]
            .into_iter()
            .find(|version| version.text() == segment)
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
            Self::V1_4 => "1.4",
        }
    }

    /// Any version but this one, for replies that come from the wrong one.
    pub(super) fn other(self) -> Self {
        if self == Self::V1_3 {
            Self::V1_4
        } else {
            Self::V1_3
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.text())
    }
}
