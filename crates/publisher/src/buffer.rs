//! A body that grows, under two bounds: its own limit, and the room that is left for all. Room is taken before memory
//! is, and for what is allocated, not for what is filled: many bodies that have only just begun must not take more
//! together than there is. It reads nothing itself.

use std::io::Read;

use bytes::Bytes;

use crate::admission::{NoRoom, Reservation};

/// Memory is at most this many times what has come, so that a caller who announces much and sends little holds
/// little, and copying what is there already costs less than reading it did.
const GROWTH: usize = 2;

/// How much comes out of a decoder before its size is looked at, in bytes.
const STEP: usize = 64 * 1024;

/// The bytes of one body. A body that comes in one piece is not copied.
pub(crate) struct Buffer {
    /// The only piece so far, as it came.
    piece: Bytes,
    /// All of them, once there is a second one.
    joined: Vec<u8>,
    /// The room that was taken, in bytes.
    taken: usize,
    /// What it will not grow beyond by itself, in bytes: the announced length, or the limit.
    expected: usize,
}

impl Buffer {
    /// Empty; it is not expected to get longer than `expected`.
    pub(crate) fn new(expected: usize) -> Self {
        Self {
            piece: Bytes::new(),
            joined: Vec::new(),
            taken: 0,
            expected,
        }
    }

    /// How many bytes have come.
    pub(crate) fn len(&self) -> usize {
        self.piece.len() + self.joined.len()
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(crate) fn push(&mut self, piece: Bytes, room: &mut Reservation) -> Result<(), NoRoom> {
        if self.len() == 0 {
            room.take_bytes(piece.len())?;
            self.taken = piece.len();
            self.piece = piece;
            return Ok(());
        }
        self.make_room(piece.len(), room)?;
        let first = std::mem::take(&mut self.piece);
        self.joined.extend_from_slice(&first);
        self.joined.extend_from_slice(&piece);
        Ok(())
    }

    /// Appends some of what `source` has; nothing once it is at its end.
    ///
    /// # Errors
    /// [`NoRoom`], and what the source says.
    pub(crate) fn pull(
        &mut self,
        source: &mut impl Read,
        room: &mut Reservation,
    ) -> Result<std::io::Result<usize>, NoRoom> {
        self.make_room(STEP, room)?;
        // It is read into what was reserved and makes no room of its own.
        Ok(source.take(STEP as u64).read_to_end(&mut self.joined))
    }

    fn make_room(&mut self, more: usize, room: &mut Reservation) -> Result<(), NoRoom> {
        let needed = self.len().saturating_add(more);
        if needed > self.taken {
            let growth = if self.len() == 0 { 1 } else { GROWTH };
            let wanted = needed.saturating_mul(growth).min(self.expected).max(needed);
            room.take_bytes(wanted - self.taken)?;
            self.taken = wanted;
        }
        if self.joined.capacity() < self.taken {
            self.joined.reserve_exact(self.taken - self.joined.len());
        }
        Ok(())
    }

    /// The whole body. What was taken and not filled is free again.
    pub(crate) fn whole(mut self, room: &mut Reservation) -> Bytes {
        room.give_back_bytes(self.taken - self.len());
        if self.joined.is_empty() {
            return self.piece;
        }
        self.joined.shrink_to_fit();
        self.joined.into()
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;
    use service::Metrics;

    use super::*;
    use crate::admission::Admission;
    use crate::metrics::PublisherMetrics;
    use crate::settings::LimitSettings;

    fn room(bytes: u64) -> (Reservation, PublisherMetrics) {
        let limits = LimitSettings {
            max_in_flight_bytes: ByteSize(bytes),
            ..LimitSettings::default()
        };
        let metrics = PublisherMetrics::new(&Metrics::new("test"));
        (Admission::new(&limits, &metrics).enter(), metrics)
    }

    #[test]
    fn one_piece_is_kept_as_it_came() {
        let (mut room, metrics) = room(100);
        let piece = Bytes::from_static(b"abc");
        let mut buffer = Buffer::new(100);
        buffer.push(piece.clone(), &mut room).unwrap();
        assert_eq!(metrics.bytes_in_flight.get(), 3);
        assert_eq!(buffer.whole(&mut room).as_ptr(), piece.as_ptr());
    }

    #[test]
    fn room_is_taken_for_what_is_allocated_and_little_for_what_is_only_announced() {
        let (mut room, metrics) = room(100);
        let mut buffer = Buffer::new(60);
        for (taken, piece) in [(10, 10), (40, 10), (40, 20), (60, 10), (60, 10)] {
            buffer.push(vec![7; piece].into(), &mut room).unwrap();
            assert_eq!(metrics.bytes_in_flight.get(), taken);
            let allocated = buffer.joined.capacity().max(buffer.piece.len());
            assert_eq!(i64::try_from(allocated).unwrap(), taken);
        }
        assert_eq!(buffer.whole(&mut room), vec![7; 60]);
    }

    #[test]
    fn without_room_nothing_is_allocated() {
        let (mut room, _) = room(30);
        let mut buffer = Buffer::new(1_000);
        buffer.push(vec![7; 20].into(), &mut room).unwrap();
        assert_eq!(buffer.push(vec![7; 20].into(), &mut room), Err(NoRoom));
        assert_eq!((buffer.len(), buffer.joined.capacity()), (20, 0));
    }

    #[test]
    fn what_is_pulled_stays_in_what_was_reserved() {
        let (mut room, metrics) = room(1 << 20);
        let source = vec![7; 3 * STEP + 5];
        let (mut rest, mut buffer) = (&source[..], Buffer::new(8 * STEP));
        while buffer.pull(&mut rest, &mut room).unwrap().unwrap() > 0 {
            assert_eq!(
                metrics.bytes_in_flight.get(),
                i64::try_from(buffer.joined.capacity()).unwrap()
            );
        }
        assert_eq!(buffer.whole(&mut room), source);
        assert_eq!(
            metrics.bytes_in_flight.get(),
            i64::try_from(source.len()).unwrap()
        );
    }
}
