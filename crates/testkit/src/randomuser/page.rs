//! A page of users as JSON: generated from its request alone or taken from samples, valid or with a fault.

mod cache;
mod samples;

use std::hash::Hasher;

use jiff::Timestamp;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::cache::PageCache;
pub(crate) use self::samples::Samples;
pub use self::samples::SamplesError;
use super::fault::Fault;
use super::nationality::{Nationalities, Nationality};
use super::person;
use super::pick::pick;
use super::query::Query;
use super::version::Version;

/// The source of people.
#[derive(Debug)]
pub(crate) struct People {
    pub(crate) nationalities: Nationalities,
    pub(crate) samples: Option<Samples>,
    /// The date of their ages.
    pub(crate) today: Timestamp,
}

/// The request of a page. The same request gives the same people.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) version: Version,
    pub(crate) query: Query,
    /// The query's seed, or a random one.
    pub(crate) seed: String,
    /// The seed of the page's random numbers.
    stream: u64,
}

#[derive(Serialize)]
struct Info<'a> {
    seed: &'a str,
    results: usize,
    page: usize,
    version: &'a str,
}

impl People {
    /// Renders the page, with the faults of its content.
    pub(crate) fn render(&self, request: &Request, fault: Option<&Fault>) -> Vec<u8> {
        let Request {
            version, query, seed, ..
        } = request;
        let available = self.available(query);
        let count = match fault {
            Some(Fault::NoResults) => 0,
            Some(Fault::FewerResults) => available / 2,
            _ => available,
        };
        let info_version = if fault == Some(&Fault::WrongVersion) {
            version.other()
        } else {
            *version
        };
        let info = Info {
            seed,
            results: available,
            page: query.page,
            version: info_version.text(),
        };

        let mut body = Vec::with_capacity(64 + count * 1_200);
        body.extend_from_slice(br#"{"results":["#);
        for index in 0..count {
            if index > 0 {
                body.push(b',');
            }
            self.write_record(request, index, fault, &mut body);
        }
        body.extend_from_slice(br#"],"info":"#);
        write_json(&info, &mut body);
        body.push(b'}');
        body
    }

    /// The number of users: the requested one, except at the end of the samples.
    pub(crate) fn available(&self, query: &Query) -> usize {
        self.samples.as_ref().map_or(query.results, |samples| {
            samples.page(query.page, query.results).len()
        })
    }

    fn write_record(&self, request: &Request, index: usize, fault: Option<&Fault>, body: &mut Vec<u8>) {
        let last = self.available(&request.query) - 1;
        match fault {
            Some(Fault::BrokenRecord(field)) if index == last.div_ceil(2) => {
                let mut record = self.record_value(request, index);
                field.apply(&mut record);
                write_json(&record, body);
            }
            Some(Fault::DuplicateUuids) if index == last && last > 0 => {
                let mut record = self.record_value(request, index);
                record["login"]["uuid"] = self.record_value(request, 0)["login"]["uuid"].take();
                write_json(&record, body);
            }
            _ => self.write_whole_record(request, index, body),
        }
    }

    fn record_value(&self, request: &Request, index: usize) -> Value {
        let mut text = Vec::new();
        self.write_whole_record(request, index, &mut text);
        serde_json::from_slice(&text).expect("a record that was just written is valid JSON")
    }

    fn write_whole_record(&self, request: &Request, index: usize, body: &mut Vec<u8>) {
        let Request { version, query, .. } = request;
        if let Some(samples) = &self.samples {
            body.extend_from_slice(samples.page(query.page, query.results)[index].get().as_bytes());
            return;
        }
        let mut rng = request.rng_of(index);
        let nationality = choose(&mut rng, self.nationalities.of(*version), &query.nationalities);
        let record = person::draw(&mut rng, nationality, query, *version, self.today);
        write_json(&record, body);
    }
}

fn choose<'a>(rng: &mut Xoshiro256PlusPlus, all: &'a [Nationality], filter: &[usize]) -> &'a Nationality {
    if filter.is_empty() {
        pick(rng, all)
    } else {
        &all[*pick(rng, filter)]
    }
}

impl Request {
    /// People are a function of version, seed, filters, page and index. So a page with fewer results is a prefix of the
    /// longer one.
    pub(crate) fn new(version: Version, query: Query, seed: String) -> Self {
        let mut hash = Fnv::default();
        for part in [version.text(), seed.as_str()] {
            hash.write(part.as_bytes());
            hash.write(&[0xff]);
        }
        hash.write(format!("{}{:?}{:?}", query.page, query.nationalities, query.gender).as_bytes());
        Self {
            version,
            query,
            seed,
            stream: hash.finish(),
        }
    }

    /// The key of the page in the cache: everything that it depends on.
    pub(crate) fn key(&self) -> String {
        format!("{} {:?} {:?}", self.version.text(), self.seed, self.query)
    }

    fn rng_of(&self, index: usize) -> Xoshiro256PlusPlus {
        let mut hash = Fnv(self.stream);
        hash.write(&index.to_le_bytes());
        Xoshiro256PlusPlus::seed_from_u64(hash.finish())
    }
}

/// FNV-1a. Unlike the standard library's hashers, it gives the same values in every build.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn write_json(value: &impl Serialize, body: &mut Vec<u8>) {
    serde_json::to_writer(body, value).expect("plain data is always written to memory");
}
