-- The ingester's state. Times are milliseconds since 1970.
CREATE TABLE runs (
  id TEXT PRIMARY KEY,             -- uuid, growing with time
  cause TEXT NOT NULL,
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
  batch INTEGER                    -- records per request, from the run's beginning on
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_state ON runs (state);

-- The pages of the run under way; none of a run that has ended.
CREATE TABLE pages (
  run TEXT NOT NULL,
  page INTEGER NOT NULL,           -- in the order of fetching, from 0
  first INTEGER NOT NULL,          -- the run's number of its first record
  records INTEGER NOT NULL,
  accounted TEXT NOT NULL DEFAULT '', -- places of records, such as 0-1000,2000-3000
  PRIMARY KEY (run, page)
) STRICT, WITHOUT ROWID;

-- The records of a page, in pieces that go out in one request each; a piece is let go with its last record.
CREATE TABLE pieces (
  run TEXT NOT NULL,
  page INTEGER NOT NULL,
  start INTEGER NOT NULL,          -- the place of its first record in the page
  lines BLOB NOT NULL,
  PRIMARY KEY (run, page, start)
) STRICT;

-- The ids of a page's records, kept until the run ends, to know a repeated one.
CREATE TABLE ids (
  run TEXT NOT NULL,
  page INTEGER NOT NULL,
  ids BLOB NOT NULL,
  PRIMARY KEY (run, page)
) STRICT;

-- Reasons of single records that the publisher refused.
CREATE TABLE refused (
  run TEXT NOT NULL,
  record INTEGER NOT NULL,
  id TEXT NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (run, record)
) STRICT, WITHOUT ROWID;

-- What was taken off the API's budget.
CREATE TABLE spent (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  users INTEGER NOT NULL
) STRICT;

-- The latest start that the schedule has dealt with.
CREATE TABLE marks (
  name TEXT PRIMARY KEY,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
