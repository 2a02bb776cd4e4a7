-- What only WebDAV knows (package gateway/webdav). Times are Unix milliseconds.

-- Dead properties (RFC 4918 §4.2): what clients keep about a file or folder. They
-- belong to the row and not to its path, so they move with it, lie in the trash
-- with it and go with it. xml is the whole element, able to stand alone; of the
-- space 'urn:yunbox:spelling', which holds the spelling of the file's name, it is ''.
CREATE TABLE IF NOT EXISTS dav_property (
  id     INTEGER PRIMARY KEY,
  user   INTEGER NOT NULL REFERENCES user(id),
  item   INTEGER REFERENCES item(id) ON DELETE CASCADE,
  folder INTEGER REFERENCES folder(id) ON DELETE CASCADE,
  space  TEXT NOT NULL,
  name   TEXT NOT NULL,
  xml    TEXT NOT NULL,
  CHECK ((item IS NULL) <> (folder IS NULL))
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS dav_property_item ON dav_property (item, space, name);
CREATE UNIQUE INDEX IF NOT EXISTS dav_property_folder ON dav_property (folder, space, name);

-- How many bytes of properties a person has, one row per person who ever had any.
CREATE TABLE IF NOT EXISTS dav_usage (
  user  INTEGER PRIMARY KEY REFERENCES user(id),
  bytes INTEGER NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS dav_property_counted AFTER INSERT ON dav_property BEGIN
  INSERT INTO dav_usage (user, bytes) VALUES (new.user, octet_length(new.xml))
  ON CONFLICT (user) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER IF NOT EXISTS dav_property_discounted AFTER DELETE ON dav_property BEGIN
  UPDATE dav_usage SET bytes = bytes - octet_length(old.xml) WHERE user = old.user;
END;

-- Write locks (RFC 4918 §6, §7) on paths. One whose time is over counts no longer
-- and goes when its owner takes another.
CREATE TABLE IF NOT EXISTS dav_lock (
  token    TEXT PRIMARY KEY,
  user     INTEGER NOT NULL REFERENCES user(id),
  path     TEXT NOT NULL, -- the lock's root, as the catalogue writes it
  folder   INTEGER NOT NULL, -- 1: a folder was locked
  infinite INTEGER NOT NULL, -- 1: also all below
  shared   INTEGER NOT NULL, -- 1: others may hold shared locks beside it
  owner    TEXT NOT NULL, -- the owner element as its client sent it, '' if it sent none
  expires  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dav_lock_path ON dav_lock (user, path);
