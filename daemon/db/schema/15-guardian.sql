-- People under 14 and who decides for them (packages guardian and consent). Times are
-- Unix milliseconds; those that something ends by are of the sure clock (db.Tx.Sure).

-- A child. The month in which it turns 14 is all that is kept of its birth, and nobody
-- else has even that.
CREATE TABLE IF NOT EXISTS ward (
  user   INTEGER PRIMARY KEY REFERENCES user (id) ON DELETE CASCADE,
  of_age TEXT    NOT NULL CHECK (of_age GLOB '[12][0-9][0-9][0-9]-[01][0-9]'),
  alone  INTEGER,  -- sure time since when no guardian stands for it; NULL: one does
  grown  INTEGER   -- since when it decides for itself; NULL: a guardian does
) STRICT;

CREATE TRIGGER IF NOT EXISTS ward_is_child BEFORE INSERT ON ward
WHEN (SELECT role FROM user WHERE id = NEW.user) IS NOT 'child' OR EXISTS (SELECT 1 FROM guardian WHERE guardian = NEW.user)
BEGIN SELECT RAISE(ABORT, 'guardian: only a child has guardians, and it is nobody''s'); END;

-- Who stands for a child. An invitation counts for nothing until it was accepted.
CREATE TABLE IF NOT EXISTS guardian (
  child    INTEGER NOT NULL REFERENCES ward (user) ON DELETE CASCADE,
  guardian INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  asked    INTEGER NOT NULL,
  since    INTEGER,  -- when it was accepted; NULL: not yet
  PRIMARY KEY (child, guardian),
  CHECK (child <> guardian)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS guardian_person ON guardian (guardian, child);

-- An adult, of a child that is not grown, and two at most: so there is no circle.
CREATE TRIGGER IF NOT EXISTS guardian_is_adult BEFORE INSERT ON guardian
WHEN (SELECT role FROM user WHERE id = NEW.guardian) IS 'child' OR EXISTS (SELECT 1 FROM ward WHERE user = NEW.guardian)
BEGIN SELECT RAISE(ABORT, 'guardian: a child stands for nobody'); END;
CREATE TRIGGER IF NOT EXISTS guardian_of_child BEFORE INSERT ON guardian
WHEN (SELECT grown FROM ward WHERE user = NEW.child) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'guardian: that person decides for themself'); END;
CREATE TRIGGER IF NOT EXISTS guardian_two BEFORE INSERT ON guardian
WHEN (SELECT count(*) FROM guardian WHERE child = NEW.child) >= 2
BEGIN SELECT RAISE(ABORT, 'guardian: two at most'); END;
CREATE TRIGGER IF NOT EXISTS guardian_stays BEFORE UPDATE ON guardian
WHEN NEW.child <> OLD.child OR NEW.guardian <> OLD.guardian OR OLD.since IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'guardian: a link is accepted once and never turned'); END;
CREATE TRIGGER IF NOT EXISTS guardian_not_made_child BEFORE UPDATE OF role ON user
WHEN NEW.role = 'child' AND OLD.role <> 'child'
BEGIN SELECT RAISE(ABORT, 'guardian: nobody becomes a child'); END;

-- What a child asked its guardians to consent to, and what they said.
CREATE TABLE IF NOT EXISTS ward_request (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,  -- in the order in which they came
  child    INTEGER NOT NULL REFERENCES ward (user) ON DELETE CASCADE,
  purpose  TEXT    NOT NULL,
  asked    INTEGER NOT NULL,
  answer   TEXT    CHECK (answer IN ('yes', 'no')),  -- NULL: none yet
  answered INTEGER,
  actor    INTEGER,  -- who answered
  CHECK ((answer IS NULL) = (answered IS NULL) AND (answer IS NULL) = (actor IS NULL))
) STRICT;
CREATE INDEX IF NOT EXISTS ward_request_child ON ward_request (child, id);
CREATE INDEX IF NOT EXISTS ward_request_actor ON ward_request (actor) WHERE actor IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS ward_request_open ON ward_request (child, purpose) WHERE answer IS NULL;

-- What came in of a child under a consent that was withdrawn since: it is deleted when
-- a guardian says so, at the latest when it is due.
CREATE TABLE IF NOT EXISTS ward_erasure (
  child    INTEGER NOT NULL REFERENCES ward (user) ON DELETE CASCADE,
  purpose  TEXT    NOT NULL,
  actor    INTEGER NOT NULL,   -- who withdrew the consent
  decided  INTEGER NOT NULL,
  due      INTEGER NOT NULL,   -- sure time
  asked_by INTEGER,            -- who wants it deleted now; NULL: nobody, it waits for its time
  begun    INTEGER,            -- NULL: nothing was deleted yet
  files    INTEGER NOT NULL DEFAULT 0,
  bytes    INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (child, purpose)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ward_erasure_actor ON ward_erasure (actor);
CREATE INDEX IF NOT EXISTS ward_erasure_asked ON ward_erasure (asked_by) WHERE asked_by IS NOT NULL;

-- The signed receipt of each deletion, as the child and the guardian get it.
CREATE TABLE IF NOT EXISTS ward_deletion (
  id    INTEGER PRIMARY KEY AUTOINCREMENT,
  child INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  time  INTEGER NOT NULL,
  jws   TEXT    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS ward_deletion_child ON ward_deletion (child, id);
