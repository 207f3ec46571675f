//! The `Prefer` header of a request (RFC 7240). Unknown preferences are ignored, as the RFC requires.

use axum::http::HeaderMap;
use model::headers::http;

/// The level of detail of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Counts and the rejected records.
    #[default]
    Minimal,
    /// Also partition and offset of each accepted record.
    Representation,
}

impl Preference {
    /// Parses every `Prefer` header.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let values = headers.get_all(http::PREFER).iter();
        let wanted = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(is_representation);
        if wanted {
            Self::Representation
        } else {
            Self::Minimal
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
    fn representation_is_found_among_other_preferences() {
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
            (vec!["return=minimal"], Preference::Minimal),
            (vec![], Preference::Minimal),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append("prefer", HeaderValue::from_static(value));
            }
            assert_eq!(Preference::from_headers(&headers), wanted, "{values:?}");
        }
    }
}
