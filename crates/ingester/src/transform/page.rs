//! A page after formatting: its records, encoded one behind the other, and the reasons of those that are none. Holds
//! no reply of the API any more, so that a waiting page takes half the memory. Knows no batches.

use std::ops::Range;

use model::{User, UserId};

use crate::transform::mapping::MappingError;
use crate::transform::records::Records;

/// The users of one verified reply.
#[derive(Debug, Default)]
pub struct Page {
    json: Vec<u8>,
    records: Vec<Record>,
    error: Vec<MappingError>,
}

#[derive(Debug)]
struct Record {
    id: UserId,
    place: Range<usize>,
}

impl Page {
    /// Adds what became of one user of the API.
    pub fn push(&mut self, formatted: Result<User<'_>, MappingError>) {
        match formatted {
            Ok(user) => {
                let start = self.json.len();
                user.write_json(&mut self.json);
                let place = start..self.json.len();
                self.records.push(Record { id: user.id(), place });
            }
            Err(error) => self.error.push(error),
        }
    }

    /// How many users the reply held, fit or not.
    #[must_use]
    pub fn users(&self) -> usize {
        self.records.len() + self.error.len()
    }

    /// The ids of the records, in the reply's order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = UserId> + '_ {
        self.records.iter().map(|record| record.id)
    }

    /// The records at `picks`, each of which must be one.
    #[must_use]
    pub fn records(&self, picks: &[usize]) -> Records {
        let mut records = Records::default();
        for pick in picks {
            records.push(&self.json[self.records[*pick].place.clone()]);
        }
        records
    }

    /// Why the others are no records.
    #[must_use]
    pub fn mapping_errors(&self) -> &[MappingError] {
        &self.error
    }
}
