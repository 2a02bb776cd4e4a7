-- People, their devices, and what proves that a request is theirs.
-- Passwords are kept as Argon2id (PHC strings), tokens only as SHA-256.

CREATE TABLE IF NOT EXISTS user (
  id          INTEGER PRIMARY KEY,
  username    TEXT    NOT NULL UNIQUE,  -- folded: NFKC, case removed; what sign-in compares
  shown       TEXT    NOT NULL,         -- as its owner wrote it
  role        TEXT    NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'child')),
  password    TEXT    NOT NULL,         -- PHC string
  quota_bytes INTEGER CHECK (quota_bytes >= 0),  -- NULL: no limit
  disabled    INTEGER,                  -- Unix ms since when; NULL: may sign in
  created     INTEGER NOT NULL,
  -- For how many days backups may not bring back what this person deleted; 0: not at all.
  decline_days INTEGER NOT NULL DEFAULT 365 CHECK (decline_days BETWEEN 0 AND 36500)
) STRICT;

-- There is one owner: two bindings at once cannot both succeed.
CREATE UNIQUE INDEX IF NOT EXISTS user_owner ON user (role) WHERE role = 'owner';

CREATE TABLE IF NOT EXISTS device (
  id        INTEGER PRIMARY KEY,
  user      INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  name      TEXT    NOT NULL,
  kind      TEXT    NOT NULL,
  created   INTEGER NOT NULL,
  last_seen INTEGER NOT NULL            -- written at most once an hour
) STRICT;

CREATE INDEX IF NOT EXISTS device_user ON device (user, id);

CREATE TABLE IF NOT EXISTS session (
  id        INTEGER PRIMARY KEY,
  user      INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  device    INTEGER REFERENCES device (id) ON DELETE CASCADE,
  hash      BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
  created   INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,           -- written at most once an hour
  expires   INTEGER NOT NULL            -- the absolute end; idleness ends it earlier
) STRICT;

CREATE INDEX IF NOT EXISTS session_user   ON session (user, last_seen);
CREATE INDEX IF NOT EXISTS session_device ON session (device) WHERE device IS NOT NULL;

CREATE TABLE IF NOT EXISTS token (
  id        INTEGER PRIMARY KEY,
  user      INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  device    INTEGER REFERENCES device (id) ON DELETE CASCADE,
  name      TEXT    NOT NULL,
  scope     TEXT    NOT NULL CHECK (scope IN ('full', 'files')),
  hash      BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
  created   INTEGER NOT NULL,
  last_used INTEGER                     -- written at most once an hour; NULL: never used
) STRICT;

CREATE INDEX IF NOT EXISTS token_user   ON token (user, id);
CREATE INDEX IF NOT EXISTS token_device ON token (device) WHERE device IS NOT NULL;

-- Passwords for cameras (FTP). They lie apart from the tokens, so that no request
-- over HTTP can be made with one: each is typed into a device that keeps it in the
-- clear and may send it in the clear.
CREATE TABLE IF NOT EXISTS camera_password (
  id        INTEGER PRIMARY KEY,
  user      INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  device    INTEGER REFERENCES device (id) ON DELETE CASCADE,
  name      TEXT    NOT NULL,
  hash      BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),  -- SHA-256 of 80 random bits, as 16 characters
  created   INTEGER NOT NULL,
  last_used INTEGER                     -- written at most once an hour; NULL: never used
) STRICT;

CREATE INDEX IF NOT EXISTS camera_password_user   ON camera_password (user, id);
CREATE INDEX IF NOT EXISTS camera_password_device ON camera_password (device) WHERE device IS NOT NULL;

-- Tries at binding the box. A try is counted when it starts, so that neither a
-- hang-up nor a power cut gives it back.
CREATE TABLE IF NOT EXISTS bind_attempt (
  way          TEXT    PRIMARY KEY CHECK (way IN ('code', 'secret')),
  total        INTEGER NOT NULL,
  short_start  INTEGER NOT NULL,        -- Unix ms: begin of the current ten minutes
  short_count  INTEGER NOT NULL,
  day_start    INTEGER NOT NULL,        -- Unix ms: begin of the current day
  day_count    INTEGER NOT NULL,
  locked_until INTEGER NOT NULL,        -- Unix ms; 0: not locked
  locks        INTEGER NOT NULL         -- locks so far: each is twice as long
) STRICT, WITHOUT ROWID;
