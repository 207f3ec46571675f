//! Writes segments to Cassandra and reads the state of a run. No retry.
//!
//! Chunk 0 of a run has the static column `chunks`, which lists its higher chunks, so that a reader knows them.

use std::collections::BTreeSet;

use cdrs_tokio::frame::message_result::BodyResResultRows;
use cdrs_tokio::query::PreparedQuery;
use cdrs_tokio::types::list::List;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use cdrs_tokio::types::{AsRustType as _, ByName as _, CBytes};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::prepare::in_batch;
use crate::cassandra::schema::LEDGER_TABLE;
use crate::cassandra::session::Session;
use crate::cassandra::statements;
use crate::cassandra::statements::LedgerStatements;
use crate::cassandra::wire::{BatchRequest, push_encoded, push_value};
use crate::config::Settings;
use crate::ledger::latencies::Latencies;
use crate::ledger::ledger_run::{ChunkState, LedgerRun};
use crate::ledger::segment::{self, Numbers, Segment};
use crate::ledger::varint::InvalidSegment;
use crate::pipeline::row::bind_i64;

/// Batches that are written at once.
const MAX_CONCURRENT_WRITES: usize = 8;
/// Segments of a page. They are small, because checkpoints are frequent.
const PAGE_SIZE: i32 = 5_000;

/// The run ledger of one consumer group and topic.
pub struct LedgerStore {
    group: String,
    topic: String,
    /// Distinguishes the segments of two processes that have stored the same offsets.
    instance: String,
    /// The time to live of a segment, in seconds.
    ttl: i32,
    /// The maximum estimated size of a batch.
    batch_bytes: usize,
    /// The size of a segment's values without its numbers.
    key_bytes: usize,
    insert: String,
    add_chunk: String,
    select: String,
    select_chunks: String,
}

impl LedgerStore {
    /// Creates the store of the configured group and topic. `process`: the name of this process for operators.
    pub fn new(settings: &Settings, process: &str) -> Self {
        let table = format!("{}.{LEDGER_TABLE}", settings.cassandra.keyspace);
        let instance = format!("{process}:{}", Uuid::new_v4().simple());
        let (group, topic) = (settings.kafka.group.clone(), settings.kafka.topic().to_owned());
        let key = "group_id = ? AND topic = ? AND run_id = ? AND chunk = ?";
        Self {
            key_bytes: group.len() + topic.len() + instance.len() + 120,
            group,
            topic,
            instance,
            ttl: i32::try_from(settings.ledger.ttl.as_secs()).unwrap_or(i32::MAX),
            batch_bytes: usize::try_from(settings.cassandra.statement_bytes.as_u64()).unwrap_or(usize::MAX),
            insert: format!(
                "INSERT INTO {table} (group_id, topic, run_id, chunk, topic_id, partition, from_offset, to_offset, instance, \
                 table_id, stored, dead_lettered, latencies) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?"
            ),
            add_chunk: format!("UPDATE {table} USING TTL ? SET chunks = chunks + ? WHERE {key}"),
            select: format!("SELECT table_id, stored, dead_lettered, latencies FROM {table} WHERE {key}"),
            select_chunks: format!("SELECT chunks FROM {table} WHERE {key} LIMIT 1"),
        }
    }

    /// Writes segments. Writing one again changes nothing.
    ///
    /// # Errors
    /// The first [`ErrorClass`]; other segments may be written.
    pub async fn save(&self, session: &Session, segments: &[Segment]) -> Result<(), ErrorClass> {
        if segments.is_empty() {
            return Ok(());
        }
        let prepare = async || {
            let save_segment = session.prepare(&self.insert).await?;
            let add_chunk = session.prepare(&self.add_chunk).await?;
            Ok(LedgerStatements {
                save_segment: in_batch(&save_segment, 14),
                add_chunk: in_batch(&add_chunk, 6),
                prepared: [save_segment, add_chunk],
            })
        };
        let statements = session.ledger().get_or_try_init(prepare).await?;
        // First, so that a reader finds the segments.
        let higher: BTreeSet<_> = segments
            .iter()
            .map(|segment| (segment.run, segment.chunk))
            .collect();
        let higher: Vec<_> = higher.into_iter().filter(|(_, chunk)| *chunk > 0).collect();
        self.save_batches(session, statements, &higher, |_| self.key_bytes, Self::add_chunk)
            .await?;
        self.save_batches(
            session,
            statements,
            segments,
            |it| self.estimated_size(it),
            Self::add_segment,
        )
        .await
    }

    /// Writes items in batches: as for rows, a request for each would cost more than all else.
    async fn save_batches<T>(
        &self,
        session: &Session,
        statements: &LedgerStatements,
        items: &[T],
        size: impl Fn(&T) -> usize,
        add: impl Fn(&Self, &LedgerStatements, &T, &mut BatchRequest),
    ) -> Result<(), ErrorClass> {
        let send = async |items: &[T]| {
            let mut batch = BatchRequest::with_capacity(items.len(), items.iter().map(&size).sum());
            items
                .iter()
                .for_each(|item| add(self, statements, item, &mut batch));
            session.batch(batch, &statements.prepared).await
        };
        let write = async |items: &[T]| {
            let sent = send(items).await;
            if items.len() == 1 || !matches!(sent, Err(ErrorClass::Invalid(_))) {
                return sent;
            }
            // The server may take less than `cassandra.statement_bytes`.
            for item in items {
                send(std::slice::from_ref(item)).await?;
            }
            Ok(())
        };
        let mut writes = stream::iter(batches(items, &size, self.batch_bytes).map(write))
            .buffer_unordered(MAX_CONCURRENT_WRITES);
        while writes.try_next().await?.is_some() {}
        Ok(())
    }

    /// The estimated size of a segment in a batch, never less than the server's own estimate: see
    /// `RowWrite::estimated_size`.
    fn estimated_size(&self, segment: &Segment) -> usize {
        const CELLS: usize = 5 * 20;
        let Numbers {
            stored,
            dead_lettered,
            latencies,
        } = &segment.numbers;
        // Most differences take one byte, and at most 7,812 of a chunk more.
        let numbers = 2 * (stored.len() + dead_lettered.len());
        self.key_bytes + CELLS + numbers + latencies.max_encoded_len()
    }

    fn add_chunk(&self, statements: &LedgerStatements, (run, chunk): &(Uuid, u64), batch: &mut BatchRequest) {
        batch.add(&statements.add_chunk, |wire| {
            push_value(wire, &self.ttl.to_be_bytes());
            // A set of one number.
            push_encoded(wire, |wire| {
                wire.extend_from_slice(&1_i32.to_be_bytes());
                push_value(wire, &bigint(*chunk).to_be_bytes());
            });
            self.push_key(*run, 0, wire);
        });
    }

    fn add_segment(&self, statements: &LedgerStatements, segment: &Segment, batch: &mut BatchRequest) {
        batch.add(&statements.save_segment, |wire| self.push_segment(segment, wire));
    }

    fn push_segment(&self, segment: &Segment, wire: &mut Vec<u8>) {
        let Segment {
            run,
            chunk,
            topic_id,
            table_id,
            partition,
            offsets,
            numbers,
        } = segment;
        self.push_key(*run, *chunk, wire);
        push_value(wire, topic_id.as_bytes());
        push_value(wire, &partition.to_be_bytes());
        push_value(wire, &offsets.start.to_be_bytes());
        push_value(wire, &offsets.end.to_be_bytes());
        push_value(wire, self.instance.as_bytes());
        push_value(wire, table_id.as_bytes());
        push_encoded(wire, |wire| segment::encode(&numbers.stored, wire));
        push_encoded(wire, |wire| segment::encode(&numbers.dead_lettered, wire));
        push_encoded(wire, |wire| numbers.latencies.encode(wire));
        push_value(wire, &self.ttl.to_be_bytes());
    }

    fn push_key(&self, run: Uuid, chunk: u64, wire: &mut Vec<u8>) {
        push_value(wire, self.group.as_bytes());
        push_value(wire, self.topic.as_bytes());
        push_value(wire, run.as_bytes());
        push_value(wire, &bigint(chunk).to_be_bytes());
    }

    /// Reads the state of a run. `table_id`: of the present table, if there is one.
    ///
    /// # Errors
    /// The [`ErrorClass`] of a read; [`ErrorClass::Fatal`] for an invalid segment.
    pub async fn load(
        &self,
        session: &Session,
        run: Uuid,
        table_id: Option<Uuid>,
    ) -> Result<LedgerRun, ErrorClass> {
        let chunks = session.query(&self.select_chunks, self.key(run, 0));
        let (select, chunks) = futures::try_join!(session.prepare(&self.select), chunks)?;
        let mut state = LedgerRun::new(run);
        for chunk in std::iter::once(0).chain(higher_chunks(&chunks)?) {
            let found = self.load_chunk(session, &select, run, chunk, table_id).await?;
            state.append(chunk, &found);
        }
        Ok(state)
    }

    async fn load_chunk(
        &self,
        session: &Session,
        select: &PreparedQuery,
        run: Uuid,
        chunk: u64,
        table_id: Option<Uuid>,
    ) -> Result<ChunkState, ErrorClass> {
        let mut found = ChunkState::new(table_id);
        let mut paging_state = None;
        loop {
            let mut parameters = statements::page(self.key(run, chunk), session.consistency(), paging_state);
            parameters.query_params.page_size = Some(PAGE_SIZE);
            let BodyResResultRows {
                metadata,
                rows_content,
                ..
            } = session.execute_for_rows(select, &parameters).await?;
            for row in &rows_content {
                // A partition with nothing but a static column has a row without values.
                if let Some((table_id, numbers)) = read(row).map_err(invalid)? {
                    found.add(table_id, &numbers);
                }
            }
            paging_state = metadata.paging_state;
            if paging_state.is_none() {
                return Ok(found);
            }
        }
    }

    fn key(&self, run: Uuid, chunk: u64) -> Vec<Value> {
        vec![
            bytes(self.group.as_bytes()),
            bytes(self.topic.as_bytes()),
            bytes(run.as_bytes()),
            bind_i64(bigint(chunk)),
        ]
    }
}

/// Splits items into batches of at most `bytes`, each of at least one item.
fn batches<T>(items: &[T], size: impl Fn(&T) -> usize, bytes: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = |item: &&T| {
            sum += size(item);
            sum <= bytes
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (batch, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(batch)
    })
}

fn bigint(chunk: u64) -> i64 {
    i64::try_from(chunk).expect("a sequence number has at most 12 digits")
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Some(bytes.to_vec())
}

fn invalid(error: InvalidSegment) -> ErrorClass {
    ErrorClass::Fatal(error.to_string())
}

/// The chunks above 0, in order.
fn higher_chunks(rows: &[Row]) -> Result<Vec<u64>, ErrorClass> {
    let Some(set) = rows
        .first()
        .and_then(|row| row.by_name::<List>("chunks").ok().flatten())
    else {
        return Ok(Vec::new());
    };
    let chunks: Option<Vec<i64>> = set.as_rust_type().map_err(|_| invalid(InvalidSegment))?;
    let chunks = chunks.unwrap_or_default().into_iter().map(u64::try_from);
    let mut chunks: Vec<_> = chunks
        .collect::<Result<_, _>>()
        .map_err(|_| invalid(InvalidSegment))?;
    chunks.sort_unstable();
    Ok(chunks)
}

/// Reads a row of the select.
fn read(row: &[CBytes]) -> Result<Option<(Uuid, Numbers)>, InvalidSegment> {
    let [table_id, stored, dead_lettered, latencies] = row else {
        return Err(InvalidSegment);
    };
    let Some(table_id) = table_id.as_slice() else {
        return Ok(None);
    };
    let column = |value: &'_ CBytes| value.as_slice().unwrap_or_default().to_vec();
    let numbers = Numbers {
        stored: segment::decode(&column(stored))?,
        dead_lettered: segment::decode(&column(dead_lettered))?,
        latencies: Latencies::decode(&column(latencies))?,
    };
    let table_id = Uuid::from_slice(table_id).map_err(|_| InvalidSegment)?;
    Ok(Some((table_id, numbers)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::run_number::RunNumber;

    proptest! {
        #[test]
        fn batches_cover_all_items_within_the_size_limit(
            sizes in proptest::collection::vec(1_usize..500, 0..60),
            bytes in 0_usize..2_000,
        ) {
            let batches: Vec<_> = batches(&sizes, |size| *size, bytes).collect();
            prop_assert_eq!(&batches.concat(), &sizes);
            for batch in &batches {
                prop_assert!(batch.len() == 1 || batch.iter().sum::<usize>() <= bytes);
            }
            for pair in batches.windows(2) {
                prop_assert!(pair[0].iter().sum::<usize>() + pair[1][0] > bytes);
            }
        }

        #[test]
        fn segment_is_not_larger_than_estimated(numbers in proptest::collection::btree_set(0_u32..1_000_000, 0..2_000)) {
            let mut settings = Settings::default();
            settings.kafka.topic = Some("users".to_owned().try_into().unwrap());
            let store = LedgerStore::new(&settings, "streamer-0");
            let segment = Segment {
                numbers: Numbers {
                    stored: numbers.into_iter().collect(),
                    ..Numbers::default()
                },
                ..Segment::of_row(
                    RunNumber { run: Uuid::nil(), sequence: 0 },
                    (Uuid::nil(), 0, 0),
                    Uuid::nil(),
                )
            };
            let mut values = Vec::new();
            store.push_segment(&segment, &mut values);
            prop_assert!(values.len() <= store.estimated_size(&segment));
        }
    }
}
