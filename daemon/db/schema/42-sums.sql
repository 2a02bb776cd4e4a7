-- The CRC-32C of the chunks of larger contents (package catalog), so that who reads a
-- part gets no damaged bytes. A content without a row is one chunk, or its sums are not
-- known yet: it came with an older version, and has not been read back since.
CREATE TABLE IF NOT EXISTS blob_sums (
  ref  BLOB NOT NULL PRIMARY KEY REFERENCES blob(ref) ON DELETE CASCADE,
  sums BLOB NOT NULL CHECK (length(sums) % 4 = 0) -- see docs/format.md
) STRICT, WITHOUT ROWID;
