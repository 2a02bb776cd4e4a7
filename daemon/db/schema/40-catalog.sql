-- What is kept, whose, and under which name (package catalog). Times are Unix
-- milliseconds; refs are the 32 bytes of a SHA-256.

-- What a person keeps, in numbers that change in the transaction that changes
-- the rows. bytes counts every name, its older versions and the trash, as the
-- quota does; distinct_bytes counts each content once. seq is the person's
-- change number: no row of `change` or `folder` of theirs has a higher one.
CREATE TABLE IF NOT EXISTS usage (
  user           INTEGER PRIMARY KEY REFERENCES user(id),
  items          INTEGER NOT NULL DEFAULT 0 CHECK (items >= 0),
  bytes          INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
  distinct_bytes INTEGER NOT NULL DEFAULT 0 CHECK (distinct_bytes >= 0),
  seq            INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Folders are rows of their own so that empty ones exist and that each has a
-- change number, which rises with every change below it. path repeats what the
-- chain of parents says: one look-up finds a folder, and one range holds a tree.
-- Every person has one folder without a parent, whose path is ''.
CREATE TABLE IF NOT EXISTS folder (
  id     INTEGER PRIMARY KEY AUTOINCREMENT, -- an id of a removed folder never comes back
  user   INTEGER NOT NULL REFERENCES user(id),
  parent INTEGER REFERENCES folder(id),
  name   TEXT NOT NULL,
  path   TEXT NOT NULL,
  seq    INTEGER NOT NULL,
  UNIQUE (user, path)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS folder_child ON folder (parent, name);

-- A name and its current content. In the trash a name has left its folder:
-- folder is NULL, origin says where it was, trashed says since when.
CREATE TABLE IF NOT EXISTS item (
  id      INTEGER PRIMARY KEY,
  user    INTEGER NOT NULL REFERENCES user(id),
  folder  INTEGER REFERENCES folder(id),
  name    TEXT NOT NULL,
  ref     BLOB NOT NULL CHECK (length(ref) = 32),
  size    INTEGER NOT NULL CHECK (size >= 0),
  mtime   INTEGER, -- NULL: the sender did not say
  added   INTEGER NOT NULL,
  source  TEXT NOT NULL,
  device  INTEGER NOT NULL, -- 0: none in particular
  seq     INTEGER NOT NULL,
  trashed INTEGER,
  origin  TEXT,
  source_by   TEXT NOT NULL DEFAULT 'declared', -- how source is known: declared, folder, name, guess, none
  taken       INTEGER,                     -- when the picture was taken; NULL: not known
  taken_local INTEGER NOT NULL DEFAULT 0,  -- 1: taken is a clock's time of an unknown zone, as if it were UTC
  taken_from  TEXT NOT NULL DEFAULT '',    -- what says so: name; '' where taken is NULL
  CHECK ((folder IS NULL) = (trashed IS NOT NULL)),
  CHECK ((folder IS NULL) = (origin IS NOT NULL))
) STRICT;
-- One live row per folder and name.
CREATE UNIQUE INDEX IF NOT EXISTS item_name ON item (folder, name) WHERE folder IS NOT NULL;
-- Does this person, does anybody, keep this content?
CREATE INDEX IF NOT EXISTS item_ref ON item (ref, user, trashed);
CREATE INDEX IF NOT EXISTS item_source ON item (user, source, id) WHERE folder IS NOT NULL;
CREATE INDEX IF NOT EXISTS item_trash ON item (user, trashed, id) WHERE trashed IS NOT NULL;

-- What a name held before it was replaced. trashed repeats whether the item is
-- in the trash: what is there does not count as kept when a phone asks.
CREATE TABLE IF NOT EXISTS version (
  item     INTEGER NOT NULL REFERENCES item(id),
  seq      INTEGER NOT NULL, -- the change that replaced it
  user     INTEGER NOT NULL REFERENCES user(id),
  ref      BLOB NOT NULL CHECK (length(ref) = 32),
  size     INTEGER NOT NULL,
  mtime    INTEGER,
  added    INTEGER NOT NULL,
  source   TEXT NOT NULL,
  device   INTEGER NOT NULL,
  replaced INTEGER NOT NULL,
  trashed  INTEGER,
  source_by TEXT NOT NULL DEFAULT 'declared', -- as in item
  PRIMARY KEY (item, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS version_ref ON version (ref, user, trashed);

-- Contents on this disk. A content is alive while a row of item or version has
-- its ref: there is no count that could be wrong. dead is the time since when
-- there is no such row, so that the sweep finds it without a search; doubted is
-- when a check found the file damaged or missing, so that a phone that still has
-- it is asked to send it again.
CREATE TABLE IF NOT EXISTS blob (
  ref     BLOB PRIMARY KEY CHECK (length(ref) = 32),
  sha1    BLOB NOT NULL CHECK (length(sha1) = 20),
  size    INTEGER NOT NULL,
  added   INTEGER NOT NULL,
  dead    INTEGER,
  doubted INTEGER,
  verified INTEGER -- when its bytes were last read back and were right; NULL: never
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blob_sha1 ON blob (sha1);
CREATE INDEX IF NOT EXISTS blob_dead ON blob (dead) WHERE dead IS NOT NULL;
CREATE INDEX IF NOT EXISTS blob_doubted ON blob (ref) WHERE doubted IS NOT NULL;

-- The sum over blob, one row.
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

-- What changed, per person, for clients and rooms that follow. item is 0 for a
-- change of folders only.
CREATE TABLE IF NOT EXISTS change (
  user INTEGER NOT NULL REFERENCES user(id),
  seq  INTEGER NOT NULL,
  item INTEGER NOT NULL,
  kind TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (user, seq)
) STRICT, WITHOUT ROWID;

-- Contents that their owner deleted for good, and when.
CREATE TABLE IF NOT EXISTS tombstone (
  user INTEGER NOT NULL REFERENCES user(id),
  ref  BLOB NOT NULL CHECK (length(ref) = 32),
  time INTEGER NOT NULL,
  PRIMARY KEY (user, ref)
) STRICT, WITHOUT ROWID;

-- The same contents by their SHA-1, which some clients ask by: blob forgets it with
-- the content. What was deleted before this table was there gets its row when a
-- backup offers it again.
CREATE TABLE IF NOT EXISTS tombstone_sha1 (
  user INTEGER NOT NULL REFERENCES user(id),
  sha1 BLOB NOT NULL CHECK (length(sha1) = 20),
  ref  BLOB NOT NULL CHECK (length(ref) = 32),
  PRIMARY KEY (user, sha1, ref)
) STRICT, WITHOUT ROWID;

-- What a device offered and what became of it, so that a person can see why a
-- photo is or is not here. ref is NULL if the content never became known.
CREATE TABLE IF NOT EXISTS ledger (
  user    INTEGER NOT NULL REFERENCES user(id),
  device  INTEGER NOT NULL,
  n       INTEGER NOT NULL, -- counts per person and device
  time    INTEGER NOT NULL,
  path    TEXT NOT NULL,
  ref     BLOB,
  size    INTEGER NOT NULL, -- -1: was not known
  outcome TEXT NOT NULL CHECK (outcome IN ('stored', 'known', 'declined', 'failed')),
  reason  TEXT NOT NULL,
  item    INTEGER NOT NULL, -- 0: none
  kind    TEXT NOT NULL DEFAULT '', -- why it was declined or failed, for programs: a kind of problem
  PRIMARY KEY (user, device, n)
) STRICT, WITHOUT ROWID;
-- The refusals among many files that went well.
CREATE INDEX IF NOT EXISTS ledger_trouble ON ledger (user, device, outcome, n) WHERE outcome IN ('declined', 'failed');
