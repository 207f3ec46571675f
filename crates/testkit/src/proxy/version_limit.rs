//! Lowers the versions of Kafka's protocol that a broker offers, so that clients take it for an older one.
//!
//! A client requests the versions first on each connection, and uses none above.

/// The highest version that a client may use of an API, after the API's key.
pub type VersionLimit = (i16, i16);

/// The APIs in which Kafka 2.8 and later name topics by their ids, as far as librdkafka uses them, with the versions of
/// Kafka 2.7: Produce, Fetch, Metadata, OffsetCommit, OffsetFetch.
pub const WITHOUT_TOPIC_IDS: &[VersionLimit] = &[(0, 8), (1, 12), (3, 9), (8, 8), (9, 7)];

/// The size of a frame's length.
const LENGTH: usize = 4;
/// The end of the error code, which follows the length and the correlation id.
const ERROR_CODE_END: usize = LENGTH + 4 + 2;

/// Rewrites the first response of a connection.
#[derive(Debug)]
pub(super) struct VersionLimiter {
    limits: &'static [VersionLimit],
    /// The first response, as far as it has been read; `None` once it is forwarded.
    first: Option<Vec<u8>>,
}

impl VersionLimiter {
    /// Without limits it forwards everything as read.
    pub(super) fn new(limits: &'static [VersionLimit]) -> Self {
        Self {
            limits,
            first: (!limits.is_empty()).then(Vec::new),
        }
    }

    /// Returns the bytes to forward: none while the first response is incomplete.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(mut read) = self.first.take() else {
            return bytes.to_vec();
        };
        read.extend_from_slice(bytes);
        match frame_end(&read) {
            Some(end) if read.len() >= end => {
                // Another response is forwarded as read.
                let _ = lower(&mut read[..end], self.limits);
                read
            }
            _ => {
                self.first = Some(read);
                Vec::new()
            }
        }
    }
}

/// The end of the first frame, once its length is read.
fn frame_end(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<LENGTH>()?;
    Some(LENGTH + usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Lowers the versions in a response to `ApiVersions`. Its length stays. `None` if the frame ends early.
fn lower(frame: &mut [u8], limits: &[VersionLimit]) -> Option<()> {
    // A compact array begins with its length and one more, and is not null. Another one begins with four bytes.
    let is_compact = *frame.get(ERROR_CODE_END)? != 0;
    let (count, mut at) = if is_compact {
        let (length, at) = varint(frame, ERROR_CODE_END)?;
        (length.saturating_sub(1), at)
    } else {
        let length = frame.get(ERROR_CODE_END..)?.first_chunk::<4>()?;
        (
            usize::try_from(u32::from_be_bytes(*length)).ok()?,
            ERROR_CODE_END + 4,
        )
    };
    for _ in 0..count {
        let entry = frame.get_mut(at..)?.first_chunk_mut::<6>()?;
        let [key, max] = [0, 4].map(|first| i16::from_be_bytes([entry[first], entry[first + 1]]));
        if let Some((_, limit)) = limits.iter().find(|(limited, _)| *limited == key) {
            entry[4..].copy_from_slice(&max.min(*limit).to_be_bytes());
        }
        // An entry of a compact array ends with a byte for its tags, of which there are none.
        at += if is_compact { 7 } else { 6 };
    }
    Some(())
}

/// An unsigned variable-length integer at `at`, and its end.
fn varint(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut value = 0;
    for shift in [0, 7, 14] {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &[VersionLimit] = &[(3, 9), (75, 0)];

    /// A response to `ApiVersions` with these keys and maximum versions.
    fn response(apis: &[VersionLimit], is_compact: bool) -> Vec<u8> {
        let mut body = vec![0_u8, 0, 0, 1, 0, 0];
        let count = u8::try_from(apis.len()).unwrap();
        if is_compact {
            body.push(count + 1);
        } else {
            body.extend([0, 0, 0, count]);
        }
        for (key, max) in apis {
            for number in [*key, 0, *max] {
                body.extend(number.to_be_bytes());
            }
            body.extend(is_compact.then_some(0_u8));
        }
        // The throttle time, and the response's tags.
        body.extend([0_u8; 4]);
        body.extend(is_compact.then_some(0_u8));
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(body);
        frame
    }

    #[test]
    fn maximum_versions_are_lowered_in_each_format() {
        let offered = [(0, 13), (3, 13), (18, 4), (1, 8)];
        let expected = [(0, 13), (3, 9), (18, 4), (1, 8)];
        for is_compact in [false, true] {
            let passed = VersionLimiter::new(LIMITS).pass(&response(&offered, is_compact));
            assert_eq!(passed, response(&expected, is_compact));
        }
    }

    #[test]
    fn response_in_pieces_is_forwarded_once_it_is_complete() {
        let offered = response(&[(3, 13)], true);
        let mut limiter = VersionLimiter::new(LIMITS);
        let (last, pieces) = offered.split_last().unwrap();
        for byte in pieces {
            assert!(limiter.pass(&[*byte]).is_empty());
        }
        // The next response follows at once.
        let mut end = vec![*last];
        end.extend(&offered);
        let mut expected = response(&[(3, 9)], true);
        expected.extend(&offered);
        assert_eq!(limiter.pass(&end), expected);
        assert_eq!(limiter.pass(&offered), offered, "only the first is rewritten");
    }

    #[test]
    fn anything_else_is_forwarded_as_read() {
        assert_eq!(VersionLimiter::new(&[]).pass(b"abc"), b"abc");
        let other = [0, 0, 0, 7, 0, 0, 0, 1, 0, 35, 0xff];
        assert_eq!(VersionLimiter::new(LIMITS).pass(&other), other);
        let empty = response(&[], true);
        assert_eq!(VersionLimiter::new(LIMITS).pass(&empty), empty);
    }
}
