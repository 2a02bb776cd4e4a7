-- Contents whose stored bytes were found damaged or missing (package catalog).
-- One that is open, closed IS NULL, has blob.doubted set: it is not served, and
-- whoever still has the file is asked to send it again. Closed ones stay as the
-- record of what happened. Times are Unix milliseconds.
CREATE TABLE IF NOT EXISTS damage (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  ref      BLOB NOT NULL CHECK (length(ref) = 32),
  size     INTEGER NOT NULL,
  kind     TEXT NOT NULL,    -- missing, not-a-file, size, bytes, unreadable
  found    INTEGER NOT NULL,
  found_by TEXT NOT NULL,    -- scrub, check, read, verify, upload, repair; start: found by an older version
  closed   INTEGER,
  ending   TEXT NOT NULL DEFAULT '', -- upload, copy, sound, forgotten; '' while it is open
  copy     TEXT NOT NULL DEFAULT ''  -- which copy it was healed from
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS damage_open ON damage (ref) WHERE closed IS NULL;

-- The list and blob.doubted say the same, also after a version that knew no list.
INSERT INTO damage (ref, size, kind, found, found_by)
  SELECT b.ref, b.size, 'unreadable', b.doubted, 'start' FROM blob b INDEXED BY blob_doubted
  WHERE b.doubted IS NOT NULL AND NOT EXISTS (SELECT 1 FROM damage d WHERE d.ref = b.ref AND d.closed IS NULL);
UPDATE damage SET closed = found, ending = 'sound' WHERE closed IS NULL
  AND NOT EXISTS (SELECT 1 FROM blob b WHERE b.ref = damage.ref AND b.doubted IS NOT NULL);
