-- What people asked to have erased, and their requests (packages erasure, requests).
-- Times are Unix milliseconds; deadlines are held against the sure time (db.Tx).

-- Something of a person's data that is being erased: a row stays until nothing is
-- left, so that it goes on after a power cut.
CREATE TABLE IF NOT EXISTS erasure (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  user     INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  category TEXT    NOT NULL,            -- '': all
  purpose  TEXT    NOT NULL,            -- '': whatever it rests on
  trash    INTEGER NOT NULL CHECK (trash IN (0, 1)),  -- 1: files go into the trash
  asked    INTEGER NOT NULL,
  erased   INTEGER NOT NULL DEFAULT 0,  -- records so far
  gone     INTEGER                      -- since when nothing of it is left; NULL: something is
) STRICT;
CREATE INDEX IF NOT EXISTS erasure_user ON erasure (user, id);

-- An account that is being cancelled, from the request to the receipt. It refers to no
-- user row: that goes before the end. While there is a row the account can only be
-- read, exported from, and kept.
CREATE TABLE IF NOT EXISTS cancellation (
  user     INTEGER PRIMARY KEY,
  stage    TEXT    NOT NULL CHECK (stage IN ('waiting', 'withdrawing', 'handing', 'clearing', 'forgetting')),
  asked    INTEGER NOT NULL,
  due      INTEGER NOT NULL,            -- when the erasing begins
  actor    INTEGER NOT NULL,            -- who asked: the person, an admin, 0: root
  heir     INTEGER NOT NULL DEFAULT 0,  -- to whom the files go; 0: they are erased
  accepted INTEGER,                     -- when the heir agreed; NULL: not yet
  begun    INTEGER,                     -- when the erasing began
  counts   TEXT    NOT NULL DEFAULT '', -- what there was when it began, by category, JSON
  handed   INTEGER NOT NULL DEFAULT 0,  -- files that the heir got
  trouble  TEXT    NOT NULL DEFAULT '', -- why it does not go on, in words without names; '' it does
  code     BLOB    NOT NULL UNIQUE CHECK (length(code) = 32)  -- SHA-256 of what the receipt is fetched with
) STRICT;
CREATE INDEX IF NOT EXISTS cancellation_heir ON cancellation (heir) WHERE heir <> 0;

-- Receipts of accounts that are gone, until they were kept long enough to be fetched.
CREATE TABLE IF NOT EXISTS deletion_receipt (
  code    BLOB PRIMARY KEY CHECK (length(code) = 32),
  jws     TEXT    NOT NULL,
  expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Requests and complaints.
CREATE TABLE IF NOT EXISTS request (
  id       INTEGER PRIMARY KEY,
  user     INTEGER REFERENCES user (id) ON DELETE CASCADE,  -- NULL: somebody without an account
  code     BLOB    UNIQUE CHECK (length(code) = 32),  -- SHA-256 of what a stranger reads the answer with; NULL: of somebody with an account
  kind     TEXT    NOT NULL CHECK (kind IN ('question', 'access', 'correction', 'deletion', 'complaint', 'other')),
  text     TEXT    NOT NULL,
  contact  TEXT    NOT NULL,            -- '' none
  verified INTEGER NOT NULL CHECK (verified IN (0, 1)),  -- 1: who wrote it had signed in
  received INTEGER NOT NULL,
  due      TEXT    NOT NULL,            -- YYYY-MM-DD
  state    TEXT    NOT NULL CHECK (state IN ('open', 'answered', 'refused')),
  answer   TEXT    NOT NULL DEFAULT '',
  answerer INTEGER NOT NULL DEFAULT 0,
  closed   INTEGER                      -- when it was answered or refused; the sure time
) STRICT;
CREATE INDEX IF NOT EXISTS request_user ON request (user, id) WHERE user IS NOT NULL;
CREATE INDEX IF NOT EXISTS request_state ON request (state, due, id);
CREATE INDEX IF NOT EXISTS request_closed ON request (closed) WHERE closed IS NOT NULL;

-- Periods after which records go by themselves, where the owner chose another one.
CREATE TABLE IF NOT EXISTS retention (
  category TEXT PRIMARY KEY,
  days     INTEGER NOT NULL CHECK (days >= 0)
) STRICT, WITHOUT ROWID;
