-- What left the box: to whom, of whom, why, on whose authority. Rows are linked by
-- hashes like those of the audit record (daemon/audit/chain.go) and are never
-- changed or removed. Nothing here refers to other tables: the register outlives
-- what it speaks of. No names, addresses or contents of people stand in it.

CREATE TABLE IF NOT EXISTS disclosure (
	seq        INTEGER PRIMARY KEY,     -- 1, 2, 3 … without gaps
	prev       BLOB    NOT NULL CHECK (length(prev) = 32),
	time       INTEGER NOT NULL,        -- Unix ms, UTC
	user       INTEGER NOT NULL,        -- whom it is about; 0: nobody in particular, see everyone
	everyone   INTEGER NOT NULL CHECK (everyone IN (0, 1)), -- 1: about everybody who had an account then
	kind       TEXT    NOT NULL,        -- what happened: "export", "second_copy", …
	recipient  TEXT    NOT NULL,        -- to whom: a host's name, or a word for who has the disk
	categories TEXT    NOT NULL,        -- which data, words with a space between
	why        TEXT    NOT NULL,        -- what for, a word
	basis      TEXT    NOT NULL,        -- "person", "consent", "clause" or "owner"
	authority  TEXT    NOT NULL,        -- the purpose and ledger entry of the consent, or the policy's clause; '' for a person's or the owner's own act
	actor      INTEGER NOT NULL,        -- who had it done; 0: the box itself, or the system's administrator
	object     TEXT    NOT NULL,        -- id of what it was: an export, an incident; '' none
	hash       BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE INDEX IF NOT EXISTS disclosure_user ON disclosure (user, seq);
CREATE INDEX IF NOT EXISTS disclosure_everyone ON disclosure (everyone, seq) WHERE everyone = 1;

-- Where the chain ends, kept apart so that a cut-off tail is noticed.
CREATE TABLE IF NOT EXISTS disclosure_head (
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	seq  INTEGER NOT NULL,
	hash BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO disclosure_head (one, seq, hash)
	SELECT 1, 0, zeroblob(32)
	WHERE NOT EXISTS (SELECT 1 FROM disclosure_head) AND NOT EXISTS (SELECT 1 FROM disclosure);

-- BEFORE INSERT also stops INSERT OR REPLACE, which fires no DELETE trigger.
CREATE TRIGGER IF NOT EXISTS disclosure_append BEFORE INSERT ON disclosure
WHEN NEW.seq IS NOT (SELECT seq + 1 FROM disclosure_head) OR NEW.prev IS NOT (SELECT hash FROM disclosure_head)
BEGIN SELECT RAISE(ABORT, 'disclosure: an entry can only be appended after the last one'); END;

CREATE TRIGGER IF NOT EXISTS disclosure_appended AFTER INSERT ON disclosure
BEGIN UPDATE disclosure_head SET seq = NEW.seq, hash = NEW.hash; END;

CREATE TRIGGER IF NOT EXISTS disclosure_no_update BEFORE UPDATE ON disclosure
BEGIN SELECT RAISE(ABORT, 'disclosure: an entry is never changed'); END;

CREATE TRIGGER IF NOT EXISTS disclosure_no_delete BEFORE DELETE ON disclosure
BEGIN SELECT RAISE(ABORT, 'disclosure: an entry is never removed'); END;

CREATE TRIGGER IF NOT EXISTS disclosure_head_insert BEFORE INSERT ON disclosure_head
WHEN EXISTS (SELECT 1 FROM disclosure_head)
BEGIN SELECT RAISE(ABORT, 'disclosure: there is one head'); END;

CREATE TRIGGER IF NOT EXISTS disclosure_head_update BEFORE UPDATE ON disclosure_head
WHEN NOT EXISTS (SELECT 1 FROM disclosure
	WHERE disclosure.seq = NEW.seq AND disclosure.seq = OLD.seq + 1 AND disclosure.prev = OLD.hash AND disclosure.hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'disclosure: the head only follows an appended entry'); END;

CREATE TRIGGER IF NOT EXISTS disclosure_head_delete BEFORE DELETE ON disclosure_head
BEGIN SELECT RAISE(ABORT, 'disclosure: the head is never removed'); END;
