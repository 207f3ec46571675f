-- Version 4 of the state, from which tests derive the earlier versions. Times are milliseconds since 1970.
CREATE TABLE runs (
  id TEXT PRIMARY KEY,             -- UUID, increasing with time
  cause TEXT NOT NULL,             -- what triggered the run
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
  batch INTEGER,                   -- records per request; this and the next two are set when the run starts
  max_in_flight INTEGER,           -- batches in flight
  duplicate_window INTEGER,        -- latest users among which duplicates are detected
  drop_pending INTEGER NOT NULL DEFAULT 0, -- whether a cancelled run drops what it has not delivered
  requested_by TEXT,               -- caller of the API
  cancelled_by TEXT,               -- caller of the API
  delivered_pages INTEGER NOT NULL DEFAULT 0 -- leading pages without pending records, set when the run ends
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_state ON runs (state);

-- Pages of the active run; deleted when it ends.
CREATE TABLE pages (
  run TEXT NOT NULL,
  page INTEGER NOT NULL,           -- in the order of fetching, from 0
  first INTEGER NOT NULL,          -- sequence number of its first record in the run
  records INTEGER NOT NULL,
  accounted TEXT NOT NULL DEFAULT '', -- ranges of acknowledged records, such as 0-1000,2000-3000
  PRIMARY KEY (run, page)
) STRICT, WITHOUT ROWID;

-- Records of a page, in chunks of one request each. A chunk is deleted when its last record is acknowledged.
CREATE TABLE pieces (
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

-- Records that the publisher rejected.
CREATE TABLE refused (
  run TEXT NOT NULL,
  record INTEGER NOT NULL,
  id TEXT NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (run, record)
) STRICT, WITHOUT ROWID;

-- Usage of the API's rate limit.
CREATE TABLE spent (
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
CREATE TABLE marks (
  name TEXT PRIMARY KEY,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
