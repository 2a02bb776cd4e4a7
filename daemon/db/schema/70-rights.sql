-- Indexes by which what is kept about one person is found (package rights), where
-- no other index does. None is on a table that an upload writes to.
CREATE INDEX IF NOT EXISTS audit_actor       ON audit (actor);
CREATE INDEX IF NOT EXISTS audit_subject     ON audit (subject);
CREATE INDEX IF NOT EXISTS version_user      ON version (user, item, seq);
CREATE INDEX IF NOT EXISTS dav_property_user ON dav_property (user);
