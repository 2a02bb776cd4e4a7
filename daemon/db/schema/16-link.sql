-- Accounts elsewhere that people connected to sign in with.

CREATE TABLE IF NOT EXISTS link (
  id       INTEGER PRIMARY KEY,
  user     INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  service  TEXT    NOT NULL,            -- its id in the settings
  subject  BLOB    NOT NULL UNIQUE CHECK (length(subject) = 32),  -- HMAC of issuer and id there, see account/link.go
  shown    BLOB,                        -- sealed: nickname or e-mail address there; NULL: none was told
  created  INTEGER NOT NULL,            -- Unix ms
  last_used INTEGER,                    -- NULL: never
  UNIQUE (user, service)
) STRICT;
