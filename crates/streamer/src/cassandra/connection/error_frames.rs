//! Makes the errors of a node readable for the driver.
//!
//! In protocol version 5 a `READ_FAILURE` or `WRITE_FAILURE` lists the failed nodes, each as an address without a port. The
//! driver reads a port, too, and panics. Codes that the driver does not know are errors of the connection for it. Both would
//! cost the session.

use cassandra_protocol::compression::Compression;
use cassandra_protocol::error::Result;
use cassandra_protocol::frame::frame_decoder::FrameDecoder;
use cassandra_protocol::frame::{Envelope, Opcode};

const SERVER_ERROR: i32 = 0x0000;
const READ_FAILURE: i32 = 0x1300;
const WRITE_FAILURE: i32 = 0x1500;
/// The codes that the driver knows, of the native protocol's section "Error codes".
const KNOWN: [i32; 18] = [
    SERVER_ERROR,
    0x000A,
    0x0100,
    0x1000,
    0x1001,
    0x1002,
    0x1003,
    0x1100,
    0x1200,
    READ_FAILURE,
    0x1400,
    WRITE_FAILURE,
    0x2000,
    0x2100,
    0x2200,
    0x2300,
    0x2400,
    0x2500,
];

/// Decodes frames with the driver's decoder and repairs the errors in them.
pub(super) struct ErrorFrameDecoder(pub(super) Box<dyn FrameDecoder + Send + Sync>);

impl FrameDecoder for ErrorFrameDecoder {
    fn consume(&mut self, data: &mut Vec<u8>, compression: Compression) -> Result<Vec<Envelope>> {
        let mut envelopes = self.0.consume(data, compression)?;
        for envelope in &mut envelopes {
            if envelope.opcode == Opcode::Error {
                envelope.body = repaired(std::mem::take(&mut envelope.body));
            }
        }
        Ok(envelopes)
    }
}

/// Returns the body of an error that the driver can read: without the list of failed nodes, or as a server error.
fn repaired(body: Vec<u8>) -> Vec<u8> {
    let Some((code, message)) = code_and_message(&body) else {
        return server_error(b"unreadable error");
    };
    match code {
        READ_FAILURE | WRITE_FAILURE => {
            without_nodes(&body, message.end).unwrap_or_else(|| server_error(&body[message]))
        }
        code if KNOWN.contains(&code) => body,
        _ => server_error(&body[message]),
    }
}

/// The code, and where the message is.
fn code_and_message(body: &[u8]) -> Option<(i32, std::ops::Range<usize>)> {
    let code = i32::from_be_bytes(*body.first_chunk()?);
    let length = u16::from_be_bytes(*body.get(4..)?.first_chunk()?);
    let message = 6..6 + usize::from(length);
    body.get(message.clone())?;
    Some((code, message))
}

/// Consistency, received and required responses, the nodes, and the rest, of which the nodes are left out.
fn without_nodes(body: &[u8], details: usize) -> Option<Vec<u8>> {
    const BEFORE_THE_NODES: usize = 2 + 4 + 4;
    const REASON: usize = 2;
    let nodes = details + BEFORE_THE_NODES;
    let count = u32::from_be_bytes(*body.get(nodes..)?.first_chunk()?);
    let mut end = nodes + 4;
    for _ in 0..count {
        end += 1 + usize::from(*body.get(end)?) + REASON;
    }
    let mut repaired = body[..nodes].to_vec();
    repaired.extend_from_slice(&0_u32.to_be_bytes());
    repaired.extend_from_slice(body.get(end..)?);
    Some(repaired)
}

fn server_error(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a message is as long as its 16 bits say");
    let mut body = SERVER_ERROR.to_be_bytes().to_vec();
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(message);
    body
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use cassandra_protocol::frame::message_error::{ErrorBody, ErrorType};
    use cassandra_protocol::frame::{FromCursor as _, Version};
    use proptest::prelude::*;

    use super::*;

    /// The body of an error as a node sends it.
    fn body(code: i32, details: &[u8]) -> Vec<u8> {
        let mut body = code.to_be_bytes().to_vec();
        body.extend_from_slice(b"\0\x05words");
        body.extend_from_slice(details);
        body
    }

    fn parse(body: Vec<u8>) -> ErrorType {
        let body = repaired(body);
        let parsed = ErrorBody::from_cursor(&mut Cursor::new(&body), Version::V5).unwrap();
        assert_eq!(parsed.message, "words");
        parsed.ty
    }

    /// Consistency QUORUM, 1 of 2 responses.
    const ONE_OF_TWO: [u8; 10] = [0, 4, 0, 0, 0, 1, 0, 0, 0, 2];

    #[test]
    fn every_error_of_the_protocol_is_read() {
        let string = |text: &str| {
            let mut bytes = vec![0, u8::try_from(text.len()).unwrap()];
            bytes.extend_from_slice(text.as_bytes());
            bytes
        };
        let simple = string("SIMPLE");
        let two_nodes = [
            &[0, 0, 0, 2, 4, 127, 0, 0, 1, 0, 1, 16][..],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        ]
        .concat();
        for (code, details) in [
            (SERVER_ERROR, Vec::new()),
            (0x000A, Vec::new()),
            (0x0100, Vec::new()),
            (0x1000, ONE_OF_TWO.to_vec()),
            (0x1001, Vec::new()),
            (0x1002, Vec::new()),
            (0x1003, Vec::new()),
            (0x1100, [&ONE_OF_TWO[..], &simple].concat()),
            (0x1200, [&ONE_OF_TWO[..], &[1]].concat()),
            (READ_FAILURE, [&ONE_OF_TWO[..], &two_nodes, &[1]].concat()),
            (
                0x1400,
                [string("ks"), string("f"), vec![0, 1], string("int")].concat(),
            ),
            (WRITE_FAILURE, [&ONE_OF_TWO[..], &two_nodes, &simple].concat()),
            (0x2000, Vec::new()),
            (0x2100, Vec::new()),
            (0x2200, Vec::new()),
            (0x2300, Vec::new()),
            (0x2400, [string("ks"), string("t")].concat()),
            (0x2500, vec![0, 2, 7, 7]),
        ] {
            assert_eq!(parse(body(code, &details)).to_error_code(), code, "{code:#x}");
        }
        // CDC_WRITE_FAILURE, CAS_WRITE_UNKNOWN, and a code of the future.
        for code in [0x1600, 0x1700, 0x7777] {
            assert_eq!(parse(body(code, &ONE_OF_TWO)), ErrorType::Server, "{code:#x}");
        }
    }

    proptest! {
        #[test]
        fn no_error_frame_is_a_panic(
            code in prop::sample::select(vec![READ_FAILURE, WRITE_FAILURE, 0x1600, -1]),
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            cut in 0_usize..60,
        ) {
            let mut body = body(code, &bytes);
            body.truncate(cut);
            let repaired = repaired(body);
            let (_, message) = code_and_message(&repaired).unwrap();
            prop_assert!(message.end <= repaired.len());
        }
    }
}
