-- What lies in tree/, the plain view of everybody's files (package tree). All of it
-- can be made again from the catalogue. Nothing here refers to the rows of people and
-- items: what is gone there is removed from the disk first, and from here then.

CREATE TABLE IF NOT EXISTS tree_state (
  id     INTEGER PRIMARY KEY CHECK (id = 1),
  mark   TEXT NOT NULL,    -- of the folder that the rows speak of; its file .yunbox/mark has it, too
  batch  INTEGER NOT NULL, -- of the last batch that is in the rows
  healed INTEGER NOT NULL, -- contents that were healed until then are seen to; Unix milliseconds
  pass   INTEGER,          -- all items up to this one were compared; NULL: no comparison goes on
  anew   INTEGER NOT NULL, -- 1: it makes every file anew, and removes what does not belong there
  room   INTEGER NOT NULL  -- 0: copies are not made, since they would take the room of what is to come
) STRICT;

CREATE TABLE IF NOT EXISTS tree_user (
  user INTEGER PRIMARY KEY,
  name TEXT NOT NULL,    -- of their folder
  seq  INTEGER NOT NULL, -- their changes up to this one are in the folder
  sums INTEGER NOT NULL  -- and up to this one in SHA256SUMS
) STRICT;

CREATE TABLE IF NOT EXISTS tree_file (
  item  INTEGER PRIMARY KEY,
  user  INTEGER NOT NULL,
  path  TEXT NOT NULL,  -- in the person's folder, as it is called there
  ref   BLOB NOT NULL CHECK (length(ref) = 32),
  mtime INTEGER NOT NULL,
  UNIQUE (user, path)
) STRICT;
