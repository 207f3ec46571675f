//! The partitioner: murmur2 of the key, like Kafka's Java clients and librdkafka's `murmur2_random`.

use crate::Key;

impl Key {
    /// The partition of this key's records in a topic with `partitions` partitions; `None` if that is not positive.
    #[must_use]
    pub fn partition(&self, partitions: i32) -> Option<i32> {
        if partitions < 1 {
            return None;
        }
        let positive = murmur2(self.text().as_bytes()) & i32::MAX;
        Some(positive % partitions)
    }
}

/// Austin Appleby's MurmurHash2 (32 bits) with the seed of Kafka's `Utils.murmur2`.
fn murmur2(bytes: &[u8]) -> i32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let (words, tail) = bytes.as_chunks::<4>();
    // The hash uses the length modulo 2^32, like Java's int.
    let length = u32::try_from(bytes.len() & 0xffff_ffff).expect("the mask leaves 32 bits");

    let mut hash = SEED ^ length;
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let mut word = [0; 4];
        word[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u32::from_le_bytes(word)).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MULTIPLIER);
    (hash ^ (hash >> 15)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_matches_the_vectors_of_kafkas_test() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn partition_is_within_the_topic() {
        let id = Key::Text("0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071".into());
        assert_eq!(id.partition(1), Some(0));
        assert!((0..6).contains(&id.partition(6).unwrap()));
        assert!((0..i32::MAX).contains(&id.partition(i32::MAX).unwrap()));
        assert_eq!(id.partition(0), None);
        assert_eq!(id.partition(-1), None);
    }
}
