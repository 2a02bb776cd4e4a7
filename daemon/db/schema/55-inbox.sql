-- Folders of this computer that the box takes files in from (package inbox).

CREATE TABLE IF NOT EXISTS inbox (
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  path      TEXT NOT NULL UNIQUE, -- absolute, without symbolic links
  user      INTEGER NOT NULL REFERENCES user(id) ON DELETE CASCADE, -- whose files they become
  source    TEXT NOT NULL,        -- 'auto': found by the names of each file
  originals TEXT NOT NULL CHECK (originals IN ('keep', 'trash')),
  target    TEXT NOT NULL,        -- folder among the person's files; '' the root
  marker    TEXT NOT NULL,        -- what the marker file in the folder says; '' where none could be written
  made      INTEGER NOT NULL,     -- 1: the marker file is ours
  volume    TEXT NOT NULL,        -- the file system, by which the folder is known where there is no marker
  device    INTEGER NOT NULL,     -- of the folder when it was added
  inode     INTEGER NOT NULL,
  created   INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS inbox_user ON inbox (user);

-- Files that were taken in and left where they are, as they were then: what is
-- the same is not read again. A file that differs is.
CREATE TABLE IF NOT EXISTS inbox_taken (
  inbox  INTEGER NOT NULL REFERENCES inbox(id) ON DELETE CASCADE,
  path   TEXT NOT NULL,    -- below the folder
  device INTEGER NOT NULL, -- 0: that of the folder, whatever it is called after the next start
  inode  INTEGER NOT NULL, -- 0, and ctime 0, where the file system makes them up
  size   INTEGER NOT NULL,
  mtime  INTEGER NOT NULL, -- Unix nanoseconds
  ctime  INTEGER NOT NULL, -- Unix nanoseconds
  ref    BLOB NOT NULL CHECK (length(ref) = 32),
  item   INTEGER NOT NULL,
  gone   INTEGER,          -- since when it is not in the folder any more; it is forgotten a month later
  PRIMARY KEY (inbox, path)
) STRICT, WITHOUT ROWID;
