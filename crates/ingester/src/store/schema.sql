-- State of the ingester. Times are milliseconds since 1970, unless their name ends in `_us`.
CREATE TABLE runs (
  id TEXT PRIMARY KEY,             -- UUID, increasing with time
  trigger TEXT NOT NULL,           -- what started the run
  state TEXT NOT NULL,
  scheduled INTEGER,
  created INTEGER NOT NULL,
  started INTEGER,
  ended INTEGER,
  seed TEXT NOT NULL,
  users INTEGER NOT NULL,
  page_size INTEGER NOT NULL,
  first_page INTEGER,
  last_page INTEGER,
  resumed INTEGER NOT NULL DEFAULT 0,
  reason TEXT,
  counts TEXT NOT NULL,            -- JSON
  pages_fetched INTEGER NOT NULL DEFAULT 0,
  next_record INTEGER NOT NULL DEFAULT 0,
  retry INTEGER NOT NULL DEFAULT 0,
  batch_size INTEGER,              -- records per request; this and the next two are set when the run starts
  max_in_flight INTEGER,           -- batches in flight
  duplicate_window INTEGER,        -- latest users among which duplicates are detected
  drop_pending INTEGER NOT NULL DEFAULT 0, -- whether a cancelled run drops what it has not delivered
  requested_by TEXT,               -- caller of the API
  cancelled_by TEXT,               -- caller of the API
  delivered_pages INTEGER NOT NULL DEFAULT 0, -- leading pages without pending records, set when the run ends
  verdict TEXT,                    -- JSON; absent until the ledger was queried
  event TEXT                       -- the event that the webhook has not received yet
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_state ON runs (state);

-- Pages of the active run; deleted when it ends.
CREATE TABLE pages (
  run TEXT NOT NULL,
  page INTEGER NOT NULL,           -- in the order of fetching, from 0
  first INTEGER NOT NULL,          -- sequence number of its first record in the run
  records INTEGER NOT NULL,
  acknowledged TEXT NOT NULL DEFAULT '', -- ranges of its records with an outcome, such as 0-1000,2000-3000
  rejected TEXT,                   -- ranges of its rejected records; unknown for a page of version 4
  fetched_at_us INTEGER,           -- when its reply arrived, in microseconds since 1970; unknown for a page of version 4
  PRIMARY KEY (run, page)
) STRICT, WITHOUT ROWID;

-- Records of a page, in batches of one request each. A batch is deleted when its last record is acknowledged.
CREATE TABLE batches (
  run TEXT NOT NULL,
  page INTEGER NOT NULL,
  start INTEGER NOT NULL,          -- index of its first record in the page
  lines BLOB NOT NULL,
  PRIMARY KEY (run, page, start)
) STRICT;

-- Ids of a page's records, kept until the run ends, to detect duplicates.
CREATE TABLE ids (
  run TEXT NOT NULL,
  page INTEGER NOT NULL,
  ids BLOB NOT NULL,
  PRIMARY KEY (run, page)
) STRICT;

-- Details of the first records that the publisher rejected.
CREATE TABLE rejected_records (
  run TEXT NOT NULL,
  record INTEGER NOT NULL,
  id TEXT NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (run, record)
) STRICT, WITHOUT ROWID;

-- Sequence numbers of an ended run's records, as ranges. Each other number below `next_record` was accepted.
CREATE TABLE numbers (
  run TEXT PRIMARY KEY,
  rejected TEXT NOT NULL,
  undelivered TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Usage of the API's rate limit.
CREATE TABLE rate_limit_usage (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  users INTEGER NOT NULL
) STRICT;

-- The pause of the schedule, if it is paused: when and by whom.
CREATE TABLE pause (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  at INTEGER NOT NULL,
  caller TEXT NOT NULL
) STRICT;

-- Single values: the latest start that the schedule has handled, and the salt of the jitter.
CREATE TABLE cursors (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
