-- Facts about this box that belong to no person.
CREATE TABLE IF NOT EXISTS box (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
