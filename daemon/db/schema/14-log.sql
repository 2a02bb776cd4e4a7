-- Where people signed in from, and where somebody tried: needed to tell that an account
-- is attacked, and kept for 30 days. What happened and when stands in the audit record,
-- which is for good and knows no addresses.
CREATE TABLE IF NOT EXISTS sign_in (
  id     INTEGER PRIMARY KEY,           -- in the order of time
  user   INTEGER REFERENCES user (id) ON DELETE CASCADE,  -- NULL: of no name of this box
  entry  INTEGER NOT NULL,              -- audit.seq
  own    INTEGER NOT NULL CHECK (own IN (0, 1)),  -- 1: sealed under the person's keys, 0: under the box's
  sealed BLOB,                          -- the address; NULL: it could not be sealed
  ends   INTEGER NOT NULL               -- Unix ms, of db.Tx.Sure
) STRICT;

CREATE INDEX IF NOT EXISTS sign_in_user ON sign_in (user, id);
CREATE INDEX IF NOT EXISTS sign_in_ends ON sign_in (ends);

-- How people use the page, of those who agreed to it (purpose usage_logs): JSON, sealed.
CREATE TABLE IF NOT EXISTS usage_log (
  id     INTEGER PRIMARY KEY,           -- in the order of time
  user   INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  time   INTEGER NOT NULL,              -- Unix ms
  sealed BLOB    NOT NULL,
  ends   INTEGER NOT NULL               -- Unix ms, of db.Tx.Sure
) STRICT;

CREATE INDEX IF NOT EXISTS usage_log_user ON usage_log (user, id);
CREATE INDEX IF NOT EXISTS usage_log_ends ON usage_log (ends);
