//! A record for the topic, and its size in Kafka's format.

use model::Key;
use rdkafka::message::{Headers as _, OwnedHeaders};

/// The header of a batch (record format v2), in bytes.
const BATCH_HEADER: usize = 61;

/// More than the headers of any record, in bytes: they come from the head of a request.
const MAX_HEADERS: usize = 128 * 1024;

/// A record for the topic; a tombstone if it has no value.
pub(crate) struct KafkaRecord<'a> {
    pub(crate) key: &'a Key,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: OwnedHeaders,
}

impl KafkaRecord<'_> {
    /// Whether a batch of only this record has at most `limit` bytes without compression.
    pub(crate) fn fits(&self, limit: usize) -> bool {
        let content = self.key.text().len() + self.value.map_or(0, <[u8]>::len);
        content.saturating_add(MAX_HEADERS) <= limit || self.batch_size() <= limit
    }

    fn batch_size(&self) -> usize {
        let key = self.key.text().len();
        let value = match self.value {
            Some(value) => sized(value.len()),
            // The length -1.
            None => 1,
        };
        let headers = self.headers.iter();
        let headers =
            headers.map(|header| sized(header.key.len()) + sized(header.value.map_or(0, <[u8]>::len)));
        // Attributes, and the differences of timestamp and offset from those of the batch, which are 0.
        let fixed = 3;
        let body = fixed + sized(key) + value + varint(self.headers.count()) + headers.sum::<usize>();
        BATCH_HEADER + sized(body)
    }
}

/// The bytes of a text with its length before it.
fn sized(length: usize) -> usize {
    varint(length) + length
}

/// The bytes of a number as a zigzag varint.
fn varint(number: usize) -> usize {
    let bits = usize::BITS - number.leading_zeros() + 1;
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use model::Contract;
    use rdkafka::message::Header;

    use super::*;

    #[test]
    fn varint_has_seven_bits_a_byte_after_the_sign() {
        for (number, bytes) in [(0, 1), (63, 1), (64, 2), (8_191, 2), (8_192, 3), (1_048_575, 3)] {
            assert_eq!(varint(number), bytes, "{number}");
        }
    }

    #[test]
    fn size_is_that_of_a_batch_of_one_record() {
        let key = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
        let key = Contract::user().parse_key(key.as_bytes()).unwrap();
        let header = Header {
            key: "run-seq",
            value: Some("42"),
        };
        let headers = OwnedHeaders::new().insert(header);
        let record = |value| KafkaRecord {
            key: &key,
            value,
            headers: headers.clone(),
        };
        // Body: 3 + (1 + 36) + (2 + 400) + 1 + (1 + 7) + (1 + 2) = 454, with its length 456.
        let size = 61 + 456;
        let valued = record(Some(&[b'x'; 400]));
        assert_eq!(valued.batch_size(), size);
        assert!(valued.fits(size) && !valued.fits(size - 1));
        // Body: 3 + 37 + 1 + 1 + 8 + 3 = 53.
        assert_eq!(record(None).batch_size(), 61 + 54);
    }
}
