-- What belongs to keys/person-*.json. The keys themselves are not in the database:
-- its journal and its copies remember for a while what was deleted.

-- Finds who told a value without opening any: HMAC-SHA-256, see vault/index.go.
CREATE TABLE IF NOT EXISTS vault_index (
  kind TEXT    NOT NULL,                -- email, phone
  hash BLOB    NOT NULL CHECK (length(hash) = 32),
  user INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  PRIMARY KEY (kind, hash, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS vault_index_user ON vault_index (user);

-- Whose keys are to be destroyed: the next start does it where that was cut off, and
-- takes the row away. The id is nobody's by then, so no person's column holds it.
CREATE TABLE IF NOT EXISTS vault_gone (
  id   INTEGER PRIMARY KEY,
  time INTEGER NOT NULL                 -- Unix ms
) STRICT;
