//! The supported API versions. Each has its own people and record shapes.

/// A version of the API. The same seed gives different people in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// Streets are one line, dates have whole seconds, e-mail addresses may contain any letter.
    V1_2,
    /// Postcodes of NL are integers; 17 nationalities.
    V1_3,
    /// The version of `/api/`; 21 nationalities.
    V1_4,
}

impl Version {
    pub(crate) const LATEST: Self = Self::V1_4;

    /// Parses the path segment after `/api/`.
    pub(crate) fn of_segment(segment: &str) -> Option<Self> {
        [Self::V1_2, Self::V1_3, Self::V1_4]
            .into_iter()
            .find(|version| version.text() == segment)
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
            Self::V1_4 => "1.4",
        }
    }

    /// Another version, for responses with the wrong one.
    pub(crate) fn other(self) -> Self {
        if self == Self::V1_3 {
            Self::V1_4
        } else {
            Self::V1_3
        }
    }
}
