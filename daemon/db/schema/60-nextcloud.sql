-- Chunked uploads of Nextcloud's clients (package gateway/nextcloud). The bytes are
-- those of one resumable upload; both tables go with its row. Times are Unix
-- milliseconds.

-- A chunk folder. Its name is the client's, which may choose the same for two
-- files, so the place where the file goes is part of its key.
CREATE TABLE IF NOT EXISTS nextcloud_folder (
  upload      TEXT PRIMARY KEY REFERENCES upload(id) ON DELETE CASCADE,
  user        INTEGER NOT NULL REFERENCES user(id),
  name        TEXT NOT NULL,
  destination TEXT NOT NULL, -- path of the file; '' if its client has not said it yet
  bytes       INTEGER NOT NULL DEFAULT 0 -- of all chunks
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS nextcloud_folder_key ON nextcloud_folder (user, name, destination);

-- A chunk in it. The row is written before the bytes are made durable, so it counts
-- only if the upload reaches its end.
CREATE TABLE IF NOT EXISTS nextcloud_chunk (
  upload  TEXT NOT NULL REFERENCES nextcloud_folder(upload) ON DELETE CASCADE,
  number  INTEGER NOT NULL,
  name    TEXT NOT NULL, -- as its client wrote the number
  size    INTEGER NOT NULL,
  end     INTEGER NOT NULL, -- offset behind it in the upload
  crc     INTEGER NOT NULL, -- CRC-64 (ECMA): whether it is the same that is sent again
  written INTEGER NOT NULL,
  PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;

-- A chunk that came before its turn: a small upload of its own, whole and durable,
-- until it can be appended.
CREATE TABLE IF NOT EXISTS nextcloud_early (
  upload  TEXT NOT NULL REFERENCES nextcloud_folder(upload) ON DELETE CASCADE,
  number  INTEGER NOT NULL,
  name    TEXT NOT NULL,
  size    INTEGER NOT NULL,
  crc     INTEGER NOT NULL, -- as in nextcloud_chunk
  written INTEGER NOT NULL,
  staged  TEXT NOT NULL REFERENCES upload(id) ON DELETE CASCADE,
  PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS nextcloud_early_staged ON nextcloud_early (staged);
