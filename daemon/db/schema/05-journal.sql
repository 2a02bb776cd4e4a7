-- How far the journal beside this database has come (package db): the number of
-- the last transaction and a random mark of it, written in that transaction.
CREATE TABLE IF NOT EXISTS journal (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  number INTEGER NOT NULL,
  mark   INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO journal (one, number, mark) VALUES (1, 0, 0);
