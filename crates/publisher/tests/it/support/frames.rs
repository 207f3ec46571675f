//! HTTP/2 connections of raw frames, for callers that no client library would be.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::publisher_process::Publisher;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GO_AWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The setting SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// The largest payload of a frame.
const MAX_PAYLOAD: usize = 16 * 1024;

/// `GET / HTTP/2`, encoded with the static table except the authority.
pub(crate) const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b'x'];

/// A frame (RFC 9113, 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field without indexing (RFC 7541, 6.2.2), of a short name and value.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let sized = |text: &str| {
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 127);
        [&[length], text.as_bytes()].concat()
    };
    [vec![0], sized(name), sized(value)].concat()
}

/// The head of `POST /v1/users` with this content type.
pub(crate) fn post(content_type: &str) -> Vec<u8> {
    let method_and_scheme = vec![0x83, 0x86];
    [
        method_and_scheme,
        field(":path", "/v1/users"),
        field(":authority", "x"),
        field("content-type", content_type),
    ]
    .concat()
}

/// The frames of a body on `stream`.
pub(crate) fn body(stream: u32, body: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut parts = body.chunks(MAX_PAYLOAD).peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() { END_STREAM } else { 0 };
        frames.extend(frame(DATA, flags, stream, part));
    }
    frames
}

/// A received frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

/// A connection whose client acknowledges pings and settings, and extends no window.
pub(crate) struct RawConnection {
    stream: TcpStream,
    received: Arc<Mutex<Vec<Frame>>>,
    reading: JoinHandle<()>,
}

impl RawConnection {
    /// Connects. The publisher may send `window` bytes on each stream.
    pub(crate) fn open(publisher: &Publisher, window: u32) -> Self {
        let mut stream = TcpStream::connect(publisher.url.trim_start_matches("http://")).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &settings)).unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let reading = {
            let (stream, received) = (stream.try_clone().unwrap(), Arc::clone(&received));
            std::thread::spawn(move || read_and_acknowledge(stream, &received))
        };
        Self {
            stream,
            received,
            reading,
        }
    }

    /// Sends frames; returns whether the connection is still open.
    pub(crate) fn send(&mut self, frames: &[u8]) -> bool {
        self.stream.write_all(frames).is_ok()
    }

    /// The frames received until now.
    pub(crate) fn received(&self) -> Vec<Frame> {
        self.received.lock().unwrap().clone()
    }

    /// Whether the publisher has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.reading.is_finished()
    }
}

impl Drop for RawConnection {
    fn drop(&mut self) {
        // The reading thread has a handle of its own, which would keep the connection open. One that the publisher has
        // closed can't be shut down.
        drop(self.stream.shutdown(Shutdown::Both));
    }
}

fn read_and_acknowledge(mut stream: TcpStream, received: &Mutex<Vec<Frame>>) {
    // A reset also closes the connection.
    while let Some(read) = read_frame(&mut stream) {
        let acknowledged = match (read.kind, read.flags & ACK) {
            (PING, 0) => stream.write_all(&frame(PING, ACK, 0, &read.payload)),
            (SETTINGS, 0) => stream.write_all(&frame(SETTINGS, ACK, 0, &[])),
            _ => Ok(()),
        };
        received.lock().unwrap().push(read);
        if acknowledged.is_err() {
            return;
        }
    }
}

/// Reads a frame; none when the connection is closed.
pub(crate) fn read_frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        payload,
    })
}
