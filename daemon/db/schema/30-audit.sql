-- The audit record: what was done on the box, by whom and when. Rows are linked
-- by hashes (see daemon/audit/chain.go) and are never changed or removed: the
-- triggers refuse it, and Verify finds it where somebody got around them.
-- Nothing here refers to other tables: the record outlives what it speaks of.

CREATE TABLE IF NOT EXISTS audit (
	seq     INTEGER PRIMARY KEY,        -- 1, 2, 3 … without gaps
	prev    BLOB    NOT NULL CHECK (length(prev) = 32),
	time    INTEGER NOT NULL,           -- Unix ms, UTC
	actor   INTEGER NOT NULL,           -- user who acted; 0: the box itself, or nobody signed in
	action  TEXT    NOT NULL,           -- "session.open"
	subject INTEGER NOT NULL,           -- user whom it concerns; 0: none
	object  TEXT    NOT NULL,           -- id of what was acted on; '' none
	device  INTEGER NOT NULL,           -- 0: none
	via     TEXT    NOT NULL,           -- the way in: http, socket, …
	detail  TEXT    NOT NULL,           -- '' or a JSON object of strings, keys sorted
	hash    BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Where the chain ends, kept apart so that a cut-off tail is noticed.
CREATE TABLE IF NOT EXISTS audit_head (
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	seq  INTEGER NOT NULL,
	hash BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO audit_head (one, seq, hash)
	SELECT 1, 0, zeroblob(32)
	WHERE NOT EXISTS (SELECT 1 FROM audit_head) AND NOT EXISTS (SELECT 1 FROM audit);

-- BEFORE INSERT also stops INSERT OR REPLACE, which fires no DELETE trigger.
CREATE TRIGGER IF NOT EXISTS audit_append BEFORE INSERT ON audit
WHEN NEW.seq IS NOT (SELECT seq + 1 FROM audit_head) OR NEW.prev IS NOT (SELECT hash FROM audit_head)
BEGIN SELECT RAISE(ABORT, 'audit: an entry can only be appended after the last one'); END;

CREATE TRIGGER IF NOT EXISTS audit_appended AFTER INSERT ON audit
BEGIN UPDATE audit_head SET seq = NEW.seq, hash = NEW.hash; END;

CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit: an entry is never changed'); END;

CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit: an entry is never removed'); END;

CREATE TRIGGER IF NOT EXISTS audit_head_insert BEFORE INSERT ON audit_head
WHEN EXISTS (SELECT 1 FROM audit_head)
BEGIN SELECT RAISE(ABORT, 'audit: there is one head'); END;

CREATE TRIGGER IF NOT EXISTS audit_head_update BEFORE UPDATE ON audit_head
WHEN NOT EXISTS (SELECT 1 FROM audit
	WHERE audit.seq = NEW.seq AND audit.seq = OLD.seq + 1 AND audit.prev = OLD.hash AND audit.hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'audit: the head only follows an appended entry'); END;

CREATE TRIGGER IF NOT EXISTS audit_head_delete BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'audit: the head is never removed'); END;
