//! Integers of variable length, in which the columns of a segment are encoded.
//!
//! Pure.

use thiserror::Error;

/// The bytes are not those of a column of a segment.
#[derive(Clone, Copy, Debug, Error)]
#[error("the run ledger has an invalid segment")]
pub struct InvalidSegment;

/// Appends a number in LEB128: seven bits a byte, the lowest first, the highest bit set in all but the last.
pub(super) fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
}

/// Removes a number in LEB128 from the beginning of `bytes`.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64, InvalidSegment> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(InvalidSegment)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(InvalidSegment);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(InvalidSegment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varint_is_decoded_as_encoded(number: u64, after: Vec<u8>) {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, number);
            bytes.extend(&after);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take_varint(&mut rest).unwrap(), number);
            prop_assert_eq!(rest, after);
        }
    }
}
