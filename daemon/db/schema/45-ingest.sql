-- Resumable uploads (package ingest): what must be known about one after a
-- restart. Its bytes and how many of them are safe are storage's business. A
-- finished row stays until it expires, for a client whose answer was lost.
CREATE TABLE IF NOT EXISTS upload (
  id        TEXT PRIMARY KEY, -- 128 random bits
  user      INTEGER NOT NULL REFERENCES user(id),
  device    INTEGER NOT NULL,
  source    TEXT NOT NULL,
  path      TEXT NOT NULL,
  size      INTEGER NOT NULL, -- -1: not known yet
  mtime     INTEGER,
  want      BLOB,
  want_sha1 BLOB,
  if_absent INTEGER NOT NULL, -- 1: only if the name is free
  if_ref    BLOB,             -- only if the name has this content
  extra     TEXT NOT NULL,
  created   INTEGER NOT NULL,
  expires   INTEGER NOT NULL,
  item      INTEGER, -- set when it is finished, with all below
  ref       BLOB,
  stored    TEXT,
  outcome   TEXT,
  source_by TEXT NOT NULL DEFAULT 'declared', -- as in item
  automatic INTEGER NOT NULL DEFAULT 0 -- 1: a backup brings it, nobody asked for this one
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS upload_expires ON upload (expires);
-- Cameras know an upload by the name of its file only.
CREATE INDEX IF NOT EXISTS upload_path ON upload (user, path) WHERE item IS NULL;
