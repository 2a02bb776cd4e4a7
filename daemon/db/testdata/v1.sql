-- The schema of version 1, as it was before the first migration.
CREATE TABLE IF NOT EXISTS box (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS user (
  id          INTEGER PRIMARY KEY,
  username    TEXT    NOT NULL UNIQUE,
  shown       TEXT    NOT NULL,
  role        TEXT    NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'child')),
  password    TEXT    NOT NULL,
  quota_bytes INTEGER CHECK (quota_bytes >= 0),
  disabled    INTEGER,
  created     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS user_owner ON user (role) WHERE role = 'owner';
CREATE TABLE IF NOT EXISTS device (
  id        INTEGER PRIMARY KEY,
  user      INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  name      TEXT    NOT NULL,
  kind      TEXT    NOT NULL,
  created   INTEGER NOT NULL,
  last_seen INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS device_user ON device (user, id);
CREATE TABLE IF NOT EXISTS session (
  id        INTEGER PRIMARY KEY,
  user      INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  device    INTEGER REFERENCES device (id) ON DELETE CASCADE,
  hash      BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
  created   INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  expires   INTEGER NOT NULL
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
  last_used INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS token_user   ON token (user, id);
CREATE INDEX IF NOT EXISTS token_device ON token (device) WHERE device IS NOT NULL;
CREATE TABLE IF NOT EXISTS bind_attempt (
  way          TEXT    PRIMARY KEY CHECK (way IN ('code', 'secret')),
  total        INTEGER NOT NULL,
  short_start  INTEGER NOT NULL,
  short_count  INTEGER NOT NULL,
  day_start    INTEGER NOT NULL,
  day_count    INTEGER NOT NULL,
  locked_until INTEGER NOT NULL,
  locks        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consent_ledger (
	seq             INTEGER PRIMARY KEY,
	prev            BLOB    NOT NULL CHECK (length(prev) = 32),
	time            INTEGER NOT NULL,
	user            INTEGER NOT NULL,
	device          INTEGER NOT NULL,
	purpose         TEXT    NOT NULL,
	purpose_version INTEGER NOT NULL,
	granted         INTEGER NOT NULL CHECK (granted IN (0, 1)),
	policy_revision TEXT    NOT NULL,
	actor           INTEGER NOT NULL,
	how             TEXT    NOT NULL,
	hash            BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX IF NOT EXISTS consent_ledger_latest ON consent_ledger (user, purpose, device, seq);
CREATE TABLE IF NOT EXISTS consent_receipt (
	seq INTEGER PRIMARY KEY REFERENCES consent_ledger (seq),
	jws TEXT    NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS consent_ledger_head (
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	seq  INTEGER NOT NULL,
	hash BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO consent_ledger_head (one, seq, hash)
	SELECT 1, 0, zeroblob(32)
	WHERE NOT EXISTS (SELECT 1 FROM consent_ledger_head) AND NOT EXISTS (SELECT 1 FROM consent_ledger);
CREATE TRIGGER IF NOT EXISTS consent_ledger_append BEFORE INSERT ON consent_ledger
WHEN NEW.seq IS NOT (SELECT seq + 1 FROM consent_ledger_head) OR NEW.prev IS NOT (SELECT hash FROM consent_ledger_head)
BEGIN SELECT RAISE(ABORT, 'consent: a decision can only be appended after the last one'); END;
CREATE TRIGGER IF NOT EXISTS consent_ledger_appended AFTER INSERT ON consent_ledger
BEGIN UPDATE consent_ledger_head SET seq = NEW.seq, hash = NEW.hash; END;
CREATE TRIGGER IF NOT EXISTS consent_ledger_no_update BEFORE UPDATE ON consent_ledger
BEGIN SELECT RAISE(ABORT, 'consent: a decision is never changed'); END;
CREATE TRIGGER IF NOT EXISTS consent_ledger_no_delete BEFORE DELETE ON consent_ledger
BEGIN SELECT RAISE(ABORT, 'consent: a decision is never removed'); END;
CREATE TRIGGER IF NOT EXISTS consent_ledger_head_insert BEFORE INSERT ON consent_ledger_head
WHEN EXISTS (SELECT 1 FROM consent_ledger_head)
BEGIN SELECT RAISE(ABORT, 'consent: there is one head'); END;
CREATE TRIGGER IF NOT EXISTS consent_ledger_head_update BEFORE UPDATE ON consent_ledger_head
WHEN NOT EXISTS (SELECT 1 FROM consent_ledger AS l
	WHERE l.seq = NEW.seq AND l.seq = OLD.seq + 1 AND l.prev = OLD.hash AND l.hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'consent: the head only follows an appended decision'); END;
CREATE TRIGGER IF NOT EXISTS consent_ledger_head_delete BEFORE DELETE ON consent_ledger_head
BEGIN SELECT RAISE(ABORT, 'consent: the head is never removed'); END;
CREATE TRIGGER IF NOT EXISTS consent_receipt_insert BEFORE INSERT ON consent_receipt
WHEN EXISTS (SELECT 1 FROM consent_receipt WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'consent: a receipt is never replaced'); END;
CREATE TRIGGER IF NOT EXISTS consent_receipt_no_update BEFORE UPDATE ON consent_receipt
BEGIN SELECT RAISE(ABORT, 'consent: a receipt is never changed'); END;
CREATE TRIGGER IF NOT EXISTS consent_receipt_no_delete BEFORE DELETE ON consent_receipt
BEGIN SELECT RAISE(ABORT, 'consent: a receipt is never removed'); END;
CREATE TABLE IF NOT EXISTS audit (
	seq     INTEGER PRIMARY KEY,
	prev    BLOB    NOT NULL CHECK (length(prev) = 32),
	time    INTEGER NOT NULL,
	actor   INTEGER NOT NULL,
	action  TEXT    NOT NULL,
	subject INTEGER NOT NULL,
	object  TEXT    NOT NULL,
	device  INTEGER NOT NULL,
	via     TEXT    NOT NULL,
	detail  TEXT    NOT NULL,
	hash    BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TABLE IF NOT EXISTS audit_head (
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	seq  INTEGER NOT NULL,
	hash BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO audit_head (one, seq, hash)
	SELECT 1, 0, zeroblob(32)
	WHERE NOT EXISTS (SELECT 1 FROM audit_head) AND NOT EXISTS (SELECT 1 FROM audit);
CREATE TRIGGER IF NOT EXISTS audit_append BEFORE INSERT ON audit
WHEN NEW.seq IS NOT (SELECT seq + 1 FROM audit_head) OR NEW.prev IS NOT (SELECT hash FROM audit_head)
BEGIN SELECT RAISE(ABORT, 'audit: an entry can only be appended after the last one'); END;
CREATE TRIGGER IF NOT EXISTS audit_appended AFTER INSERT ON audit
BEGIN UPDATE audit_head SET seq = NEW.seq, hash = NEW.hash; END;
CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit: an entry is never changed'); END;
CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit: an entry is never removed'); END;
CREATE TRIGGER IF NOT EXISTS audit_head_insert BEFORE INSERT ON audit_head
WHEN EXISTS (SELECT 1 FROM audit_head)
BEGIN SELECT RAISE(ABORT, 'audit: there is one head'); END;
CREATE TRIGGER IF NOT EXISTS audit_head_update BEFORE UPDATE ON audit_head
WHEN NOT EXISTS (SELECT 1 FROM audit
	WHERE audit.seq = NEW.seq AND audit.seq = OLD.seq + 1 AND audit.prev = OLD.hash AND audit.hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'audit: the head only follows an appended entry'); END;
CREATE TRIGGER IF NOT EXISTS audit_head_delete BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'audit: the head is never removed'); END;
CREATE TABLE IF NOT EXISTS usage (
  user           INTEGER PRIMARY KEY REFERENCES user(id),
  items          INTEGER NOT NULL DEFAULT 0 CHECK (items >= 0),
  bytes          INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
  distinct_bytes INTEGER NOT NULL DEFAULT 0 CHECK (distinct_bytes >= 0),
  seq            INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS folder (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  user   INTEGER NOT NULL REFERENCES user(id),
  parent INTEGER REFERENCES folder(id),
  name   TEXT NOT NULL,
  path   TEXT NOT NULL,
  seq    INTEGER NOT NULL,
  UNIQUE (user, path)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS folder_child ON folder (parent, name);
CREATE TABLE IF NOT EXISTS item (
  id      INTEGER PRIMARY KEY,
  user    INTEGER NOT NULL REFERENCES user(id),
  folder  INTEGER REFERENCES folder(id),
  name    TEXT NOT NULL,
  ref     BLOB NOT NULL CHECK (length(ref) = 32),
  size    INTEGER NOT NULL CHECK (size >= 0),
  mtime   INTEGER,
  added   INTEGER NOT NULL,
  source  TEXT NOT NULL,
  device  INTEGER NOT NULL,
  seq     INTEGER NOT NULL,
  trashed INTEGER,
  origin  TEXT,
  CHECK ((folder IS NULL) = (trashed IS NOT NULL)),
  CHECK ((folder IS NULL) = (origin IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS item_name ON item (folder, name) WHERE folder IS NOT NULL;
CREATE INDEX IF NOT EXISTS item_ref ON item (ref, user, trashed);
CREATE INDEX IF NOT EXISTS item_source ON item (user, source, id) WHERE folder IS NOT NULL;
CREATE INDEX IF NOT EXISTS item_trash ON item (user, trashed, id) WHERE trashed IS NOT NULL;
CREATE TABLE IF NOT EXISTS version (
  item     INTEGER NOT NULL REFERENCES item(id),
  seq      INTEGER NOT NULL,
  user     INTEGER NOT NULL REFERENCES user(id),
  ref      BLOB NOT NULL CHECK (length(ref) = 32),
  size     INTEGER NOT NULL,
  mtime    INTEGER,
  added    INTEGER NOT NULL,
  source   TEXT NOT NULL,
  device   INTEGER NOT NULL,
  replaced INTEGER NOT NULL,
  trashed  INTEGER,
  PRIMARY KEY (item, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS version_ref ON version (ref, user, trashed);
CREATE TABLE IF NOT EXISTS blob (
  ref     BLOB PRIMARY KEY CHECK (length(ref) = 32),
  sha1    BLOB NOT NULL CHECK (length(sha1) = 20),
  size    INTEGER NOT NULL,
  added   INTEGER NOT NULL,
  dead    INTEGER,
  doubted INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blob_sha1 ON blob (sha1);
CREATE INDEX IF NOT EXISTS blob_dead ON blob (dead) WHERE dead IS NOT NULL;
CREATE INDEX IF NOT EXISTS blob_doubted ON blob (ref) WHERE doubted IS NOT NULL;
CREATE TABLE IF NOT EXISTS blob_total (
  id    INTEGER PRIMARY KEY CHECK (id = 1),
  blobs INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO blob_total (id, blobs, bytes) VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS blob_counted AFTER INSERT ON blob BEGIN
  UPDATE blob_total SET blobs = blobs + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER IF NOT EXISTS blob_discounted AFTER DELETE ON blob BEGIN
  UPDATE blob_total SET blobs = blobs - 1, bytes = bytes - old.size;
END;
CREATE TABLE IF NOT EXISTS change (
  user INTEGER NOT NULL REFERENCES user(id),
  seq  INTEGER NOT NULL,
  item INTEGER NOT NULL,
  kind TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (user, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tombstone (
  user INTEGER NOT NULL REFERENCES user(id),
  ref  BLOB NOT NULL CHECK (length(ref) = 32),
  time INTEGER NOT NULL,
  PRIMARY KEY (user, ref)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (
  user    INTEGER NOT NULL REFERENCES user(id),
  device  INTEGER NOT NULL,
  n       INTEGER NOT NULL,
  time    INTEGER NOT NULL,
  path    TEXT NOT NULL,
  ref     BLOB,
  size    INTEGER NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('stored', 'known', 'declined', 'failed')),
  reason  TEXT NOT NULL,
  item    INTEGER NOT NULL,
  PRIMARY KEY (user, device, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS upload (
  id        TEXT PRIMARY KEY,
  user      INTEGER NOT NULL REFERENCES user(id),
  device    INTEGER NOT NULL,
  source    TEXT NOT NULL,
  path      TEXT NOT NULL,
  size      INTEGER NOT NULL,
  mtime     INTEGER,
  want      BLOB,
  want_sha1 BLOB,
  if_absent INTEGER NOT NULL,
  if_ref    BLOB,
  extra     TEXT NOT NULL,
  created   INTEGER NOT NULL,
  expires   INTEGER NOT NULL,
  item      INTEGER,
  ref       BLOB,
  stored    TEXT,
  outcome   TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS upload_expires ON upload (expires);
PRAGMA application_id = 0x59424f58;
PRAGMA user_version = 1;
