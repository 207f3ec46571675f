//! A page after formatting: its records, encoded one behind the other, and the reasons of those that are none. Holds
//! no reply of the API any more, so that a waiting page takes half the memory. Knows no batches.

use std::ops::Range;

use model::{User, UserId};

use crate::format::Unfit;

/// The users of one verified reply.
#[derive(Debug, Default)]
pub struct Page {
    json: Vec<u8>,
    records: Vec<Record>,
    unfit: Vec<Unfit>,
}

#[derive(Debug)]
struct Record {
    id: UserId,
    place: Range<usize>,
}

impl Page {
    /// Adds what became of one user of the API.
    pub fn push(&mut self, formatted: Result<User<'_>, Unfit>) {
        match formatted {
            Ok(user) => {
                let start = self.json.len();
                user.write_json(&mut self.json);
                let place = start..self.json.len();
                self.records.push(Record { id: user.id(), place });
            }
            Err(unfit) => self.unfit.push(unfit),
        }
    }

    /// How many users the reply held, fit or not.
    #[must_use]
    pub fn users(&self) -> usize {
        self.records.len() + self.unfit.len()
    }

    /// The ids of the records, in the reply's order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = UserId> + '_ {
        self.records.iter().map(|record| record.id)
    }

    /// The canonical JSON of the record at `index`, which must be one.
    #[must_use]
    pub fn record(&self, index: usize) -> &[u8] {
        &self.json[self.records[index].place.clone()]
    }

    /// Why the others are no records.
    #[must_use]
    pub fn unfit(&self) -> &[Unfit] {
        &self.unfit
    }
}
