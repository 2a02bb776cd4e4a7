-- What was done with somebody's data without asking them, and the clause of the
-- policy that allows it. The same act by the same hand within a day is one row that
-- counts. Each row's first time is in the audit record, too, which is chained.

CREATE TABLE IF NOT EXISTS exception (
	id     INTEGER PRIMARY KEY,
	user   INTEGER NOT NULL,  -- whose data
	time   INTEGER NOT NULL,  -- Unix ms, the first time
	last   INTEGER NOT NULL,  -- the last time
	times  INTEGER NOT NULL CHECK (times > 0),
	act    TEXT    NOT NULL,  -- see consent/exceptions.toml
	clause TEXT    NOT NULL,
	actor  INTEGER NOT NULL,  -- who did it; 0: the box, or whoever runs it on the box itself
	via    TEXT    NOT NULL   -- box, socket, http, …
) STRICT;

CREATE INDEX IF NOT EXISTS exception_user ON exception (user, id);
