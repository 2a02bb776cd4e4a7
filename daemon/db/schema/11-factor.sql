-- Second factors: one authenticator app a person (RFC 6238) and the codes for the
-- day when it is lost.

CREATE TABLE IF NOT EXISTS totp (
  user    INTEGER PRIMARY KEY REFERENCES user (id) ON DELETE CASCADE,
  secret  BLOB,                         -- sealed, see account/seal.go; NULL: none is in use
  since   INTEGER NOT NULL DEFAULT 0,   -- Unix ms when it was confirmed; 0: never
  step    INTEGER NOT NULL DEFAULT 0,   -- the newest time step that was accepted: none up to it is again
  pending BLOB,                         -- sealed: shown to the person, not confirmed, counts for nothing
  begun   INTEGER NOT NULL DEFAULT 0    -- Unix ms when it was shown
) STRICT;

-- What is left of a person's recovery codes. A used one is deleted.
CREATE TABLE IF NOT EXISTS recovery_code (
  user INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  hash BLOB    NOT NULL CHECK (length(hash) = 32),  -- SHA-256 of 80 random bits, as 16 characters
  PRIMARY KEY (user, hash)
) STRICT, WITHOUT ROWID;

-- What a person should hear about their own account, until they have seen it.
CREATE TABLE IF NOT EXISTS notice (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,  -- in the order in which they came
  user   INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  time   INTEGER NOT NULL,              -- Unix ms
  kind   TEXT    NOT NULL,
  device INTEGER,                       -- where it happened; NULL: not known. It may be gone by now
  name   TEXT    NOT NULL DEFAULT ''    -- of that device, as it was then
) STRICT;

CREATE INDEX IF NOT EXISTS notice_user ON notice (user, id);
