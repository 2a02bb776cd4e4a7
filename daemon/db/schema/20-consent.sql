-- The consent ledger: every decision that a person made about a purpose. It is
-- linked by hashes like the audit record (see daemon/audit/chain.go), only ever
-- appended to, and it is the one source of what is in force: the latest decision
-- that applies. There is no table of states that could disagree with it.
-- It refers to no user row: the proof of a consent outlives the account.

CREATE TABLE IF NOT EXISTS consent_ledger (
	seq             INTEGER PRIMARY KEY,        -- 1, 2, 3 … without gaps
	prev            BLOB    NOT NULL CHECK (length(prev) = 32),
	time            INTEGER NOT NULL,           -- Unix ms, UTC
	user            INTEGER NOT NULL,           -- whose data
	device          INTEGER NOT NULL,           -- 0: all of the person's devices
	purpose         TEXT    NOT NULL,
	purpose_version INTEGER NOT NULL,           -- version of the purpose that was shown
	granted         INTEGER NOT NULL CHECK (granted IN (0, 1)),
	policy_revision TEXT    NOT NULL,           -- revision of the policy that was current
	actor           INTEGER NOT NULL,           -- who decided
	how             TEXT    NOT NULL,           -- page, app, yunboxctl, …
	hash            BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Finds the latest decision for one (user, purpose, device) in one seek.
CREATE INDEX IF NOT EXISTS consent_ledger_latest ON consent_ledger (user, purpose, device, seq);

-- The signed receipt of each decision, exactly as the person got it.
CREATE TABLE IF NOT EXISTS consent_receipt (
	seq INTEGER PRIMARY KEY REFERENCES consent_ledger (seq),
	jws TEXT    NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS consent_ledger_head (
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	seq  INTEGER NOT NULL,
	hash BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO consent_ledger_head (one, seq, hash)
	SELECT 1, 0, zeroblob(32)
	WHERE NOT EXISTS (SELECT 1 FROM consent_ledger_head) AND NOT EXISTS (SELECT 1 FROM consent_ledger);

-- BEFORE INSERT also stops INSERT OR REPLACE, which fires no DELETE trigger.
CREATE TRIGGER IF NOT EXISTS consent_ledger_append BEFORE INSERT ON consent_ledger
WHEN NEW.seq IS NOT (SELECT seq + 1 FROM consent_ledger_head) OR NEW.prev IS NOT (SELECT hash FROM consent_ledger_head)
BEGIN SELECT RAISE(ABORT, 'consent: a decision can only be appended after the last one'); END;

CREATE TRIGGER IF NOT EXISTS consent_ledger_appended AFTER INSERT ON consent_ledger
BEGIN UPDATE consent_ledger_head SET seq = NEW.seq, hash = NEW.hash; END;

CREATE TRIGGER IF NOT EXISTS consent_ledger_no_update BEFORE UPDATE ON consent_ledger
BEGIN SELECT RAISE(ABORT, 'consent: a decision is never changed'); END;

CREATE TRIGGER IF NOT EXISTS consent_ledger_no_delete BEFORE DELETE ON consent_ledger
BEGIN SELECT RAISE(ABORT, 'consent: a decision is never removed'); END;

CREATE TRIGGER IF NOT EXISTS consent_ledger_head_insert BEFORE INSERT ON consent_ledger_head
WHEN EXISTS (SELECT 1 FROM consent_ledger_head)
BEGIN SELECT RAISE(ABORT, 'consent: there is one head'); END;

CREATE TRIGGER IF NOT EXISTS consent_ledger_head_update BEFORE UPDATE ON consent_ledger_head
WHEN NOT EXISTS (SELECT 1 FROM consent_ledger AS l
	WHERE l.seq = NEW.seq AND l.seq = OLD.seq + 1 AND l.prev = OLD.hash AND l.hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'consent: the head only follows an appended decision'); END;

CREATE TRIGGER IF NOT EXISTS consent_ledger_head_delete BEFORE DELETE ON consent_ledger_head
BEGIN SELECT RAISE(ABORT, 'consent: the head is never removed'); END;

CREATE TRIGGER IF NOT EXISTS consent_receipt_insert BEFORE INSERT ON consent_receipt
WHEN EXISTS (SELECT 1 FROM consent_receipt WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'consent: a receipt is never replaced'); END;

CREATE TRIGGER IF NOT EXISTS consent_receipt_no_update BEFORE UPDATE ON consent_receipt
BEGIN SELECT RAISE(ABORT, 'consent: a receipt is never changed'); END;

CREATE TRIGGER IF NOT EXISTS consent_receipt_no_delete BEFORE DELETE ON consent_receipt
BEGIN SELECT RAISE(ABORT, 'consent: a receipt is never removed'); END;
