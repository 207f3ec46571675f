//! Writes segments to Cassandra and reads the state of a run. No retry.
//!
//! Chunk 0 of a run has the static column `chunks`, which lists its higher chunks, so that a reader knows them.

use cdrs_tokio::frame::message_result::BodyResResultRows;
use cdrs_tokio::query::PreparedQuery;
use cdrs_tokio::statement::StatementParams;
use cdrs_tokio::types::list::List;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use cdrs_tokio::types::{AsRustType as _, ByName as _, CBytes};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::LEDGER_TABLE;
use crate::cassandra::session::Session;
use crate::cassandra::statements;
use crate::cassandra::statements::LedgerStatements;
use crate::config::Settings;
use crate::ledger::latencies::Latencies;
use crate::ledger::run_state::{ChunkState, RunState};
use crate::ledger::segment::{self, InvalidSegment, Numbers, Segment};
use crate::pipeline::row::bind_i64;

/// Segments that are written at once.
const MAX_CONCURRENT_WRITES: usize = 64;
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
    insert: String,
    add_chunk: String,
    select: String,
    select_chunks: String,
}

impl LedgerStore {
    /// Creates the store of the configured group and topic. `process`: the name of this process for operators.
    pub fn new(settings: &Settings, process: &str) -> Self {
        let table = format!("{}.{LEDGER_TABLE}", settings.cassandra.keyspace);
        let key = "group_id = ? AND topic = ? AND run_id = ? AND chunk = ?";
        Self {
            group: settings.kafka.group.clone(),
            topic: settings.kafka.topic().to_owned(),
            instance: format!("{process}:{}", Uuid::new_v4().simple()),
            ttl: i32::try_from(settings.ledger.ttl.as_secs()).unwrap_or(i32::MAX),
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
                save_segment,
                add_chunk,
            })
        };
        let prepared = session.ledger().get_or_try_init(prepare).await?;
        let writes = segments
            .iter()
            .map(|segment| self.save_one(session, prepared, segment));
        // Collected, because a stream that borrows its closure can't be sent to another thread.
        let writes: Vec<_> = writes.collect();
        let mut writes = stream::iter(writes).buffer_unordered(MAX_CONCURRENT_WRITES);
        while writes.try_next().await?.is_some() {}
        Ok(())
    }

    async fn save_one(
        &self,
        session: &Session,
        prepared: &LedgerStatements,
        segment: &Segment,
    ) -> Result<(), ErrorClass> {
        // First, so that a reader finds the segment.
        if segment.chunk > 0 {
            let parameters = self.chunk_parameters(session, segment);
            session.execute(&prepared.add_chunk, &parameters).await?;
        }
        let parameters = self.parameters(session, segment);
        session
            .execute(&prepared.save_segment, &parameters)
            .await
            .map(drop)
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
    ) -> Result<RunState, ErrorClass> {
        let chunks = session.query(&self.select_chunks, self.key(run, 0));
        let (select, chunks) = futures::try_join!(session.prepare(&self.select), chunks)?;
        let mut state = RunState::new(run);
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

    fn parameters(&self, session: &Session, segment: &Segment) -> StatementParams {
        let Segment {
            run,
            chunk,
            topic_id,
            table_id,
            partition,
            offsets,
            numbers,
        } = segment;
        let mut values = self.key(*run, *chunk);
        values.extend([
            bytes(topic_id.as_bytes()),
            bytes(&partition.to_be_bytes()),
            bind_i64(offsets.start),
            bind_i64(offsets.end),
            bytes(self.instance.as_bytes()),
            bytes(table_id.as_bytes()),
            Value::Some(segment::encode(&numbers.stored)),
            Value::Some(segment::encode(&numbers.dead_lettered)),
            Value::Some(numbers.latencies.encode()),
            bytes(&self.ttl.to_be_bytes()),
        ]);
        statements::parameters(values, session.consistency())
    }

    /// Binds the time to live, a set of one number, and the key of chunk 0.
    fn chunk_parameters(&self, session: &Session, segment: &Segment) -> StatementParams {
        let chunk = bigint(segment.chunk).to_be_bytes();
        let set = [&1_i32.to_be_bytes()[..], &8_i32.to_be_bytes(), &chunk].concat();
        let mut values = vec![bytes(&self.ttl.to_be_bytes()), Value::Some(set)];
        values.extend(self.key(segment.run, 0));
        statements::parameters(values, session.consistency())
    }
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
