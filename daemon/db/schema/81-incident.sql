-- What went wrong with people's data, and that each person concerned was told.

CREATE TABLE IF NOT EXISTS incident (
	id          INTEGER PRIMARY KEY,
	actor       INTEGER NOT NULL,       -- who wrote it; 0: the system's administrator
	created     INTEGER NOT NULL,       -- Unix ms
	changed     INTEGER NOT NULL,
	happened    INTEGER NOT NULL,       -- Unix ms: when it happened or was noticed
	contact     TEXT    NOT NULL,       -- whom to ask
	text        TEXT    NOT NULL,       -- JSON: language → title, what, effect, measures, advice, remedies
	scope       TEXT    NOT NULL,       -- JSON: whom it concerns
	sent        INTEGER,                -- NULL: a draft, which nobody sees
	publish_due INTEGER,                -- Unix ms when it is published unless all were reached; NULL: it is not
	published   INTEGER,                -- since when everybody who opens the page sees it; NULL: they do not
	ended       INTEGER                 -- since when they do not any more
) STRICT;

CREATE INDEX IF NOT EXISTS incident_actor ON incident (actor, id);
CREATE INDEX IF NOT EXISTS incident_due ON incident (publish_due) WHERE publish_due IS NOT NULL;
CREATE INDEX IF NOT EXISTS incident_published ON incident (published) WHERE published IS NOT NULL;

-- A person whom a sent incident concerns. Their address is not kept here.
CREATE TABLE IF NOT EXISTS incident_person (
	incident INTEGER NOT NULL REFERENCES incident (id) ON DELETE CASCADE,
	user     INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	seen     INTEGER,                   -- Unix ms when they had read it on the page; NULL: not yet
	mail     TEXT    NOT NULL CHECK (mail IN ('none', 'waiting', 'sent', 'failed')),
	tries    INTEGER NOT NULL,          -- at sending the e-mail
	due      INTEGER,                   -- Unix ms of the next try; NULL: there is none
	mailed   INTEGER,                   -- Unix ms when the mail server took it
	PRIMARY KEY (incident, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS incident_person_user ON incident_person (user, incident);
CREATE INDEX IF NOT EXISTS incident_person_due ON incident_person (due) WHERE due IS NOT NULL;
