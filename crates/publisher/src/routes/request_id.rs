//! The id of a request: the caller's `X-Request-Id`, or a random one. The response has it, and log lines about the request.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use model::headers::http::REQUEST_ID;

/// The longest id of a caller, in bytes.
const MAX_LENGTH: usize = 128;

/// The header of requests and responses.
const NAME: HeaderName = HeaderName::from_static(REQUEST_ID);

/// The id of one request: visible ASCII characters.
#[derive(Clone, Debug)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// Returns the id in `headers`. If there is none, or it is not 1 to 128 visible ASCII characters, it is replaced by a
    /// random one.
    pub(super) fn take_or_create(headers: &mut HeaderMap) -> Self {
        let given = headers.get(NAME).filter(|value| {
            (1..=MAX_LENGTH).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        });
        // A clone would keep the whole head of the request.
        let given = given.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        let id = given.unwrap_or_else(random);
        headers.insert(NAME, id.clone());
        Self(id)
    }

    /// Adds the id to the headers of the response.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(NAME, self.0.clone());
    }

    /// The id as text.
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

fn random() -> HeaderValue {
    let id = format!("{:032x}", rand::random::<u128>());
    HeaderValue::try_from(id).expect("hexadecimal digits are valid in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_id_is_taken_and_others_are_replaced() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(NAME, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            let id = RequestId::take_or_create(&mut headers);
            assert_eq!(headers[NAME], id.0);
            id.as_str().to_owned()
        };
        assert_eq!(id("a-1"), "a-1");
        for invalid in ["", "a b", "ä", &"x".repeat(129)] {
            assert_eq!(id(invalid).len(), 32);
        }
        let created = || {
            RequestId::take_or_create(&mut HeaderMap::new())
                .as_str()
                .to_owned()
        };
        assert_ne!(created(), created());
    }
}
