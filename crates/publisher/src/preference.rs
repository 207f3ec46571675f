//! What the caller wants to hear (RFC 7240). Preferences that are not known are ignored, as they are meant to be.

use axum::http::HeaderMap;
use model::headers::http;

/// How much an answer tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Counts, and the records that are not in Kafka.
    #[default]
    Counts,
    /// Besides, where in Kafka each of the others is.
    Representation,
}

impl Preference {
    /// Reads every `Prefer` header.
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(http::PREFER).iter();
        let wanted = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(is_representation);
        if wanted {
            Self::Representation
        } else {
            Self::Counts
        }
    }
}

fn is_representation(preference: &str) -> bool {
    let without_parameters = preference.split(';').next().unwrap_or_default();
    let compact: String = without_parameters
        .chars()
        .filter(|character| !character.is_whitespace() && *character != '"')
        .collect();
    compact.eq_ignore_ascii_case(http::RETURN_REPRESENTATION)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_wish_is_found_among_others() {
        for (values, wanted) in [
            (vec!["return=representation"], Preference::Representation),
            (
                vec!["wait=5, Return = \"representation\"; x"],
                Preference::Representation,
            ),
            (
                vec!["respond-async", "return=representation"],
                Preference::Representation,
            ),
            (vec!["return=minimal"], Preference::Counts),
            (vec![], Preference::Counts),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append("prefer", HeaderValue::from_static(value));
            }
            assert_eq!(Preference::of(&headers), wanted, "{values:?}");
        }
    }
}
