-- Second copies of the box on other disks (package backup). Times are Unix
-- milliseconds. The keys lie in keys/, not here.

CREATE TABLE IF NOT EXISTS backup_target (
  id         TEXT PRIMARY KEY, -- what the identity file on the target says
  name       TEXT NOT NULL UNIQUE,
  path       TEXT NOT NULL,    -- the box's own folder on the target, absolute
  every      INTEGER NOT NULL CHECK (every > 0), -- milliseconds between two runs at least
  created    INTEGER NOT NULL,
  run        INTEGER,          -- when the newest generation was made; NULL: never
  generation INTEGER NOT NULL DEFAULT 0,
  mark       BLOB,             -- what the records said of themselves then: whether there is something new
  settled    INTEGER NOT NULL DEFAULT 0, -- 1: the generation before it says the same
  contents   INTEGER NOT NULL DEFAULT 0,
  bytes      INTEGER NOT NULL DEFAULT 0, -- encrypted
  missing    INTEGER NOT NULL DEFAULT 0, -- contents that could not be copied
  verified   INTEGER,          -- when all of it was last read back and held; NULL: never
  failed     INTEGER,          -- when the last try failed; NULL: it did not
  reason     TEXT NOT NULL DEFAULT ''    -- why
) STRICT, WITHOUT ROWID;

-- Contents that a verification found damaged on a target, until they are written again.
CREATE TABLE IF NOT EXISTS backup_damage (
  target TEXT NOT NULL REFERENCES backup_target(id) ON DELETE CASCADE,
  name   BLOB NOT NULL CHECK (length(name) = 32), -- on the target
  PRIMARY KEY (target, name)
) STRICT, WITHOUT ROWID;
