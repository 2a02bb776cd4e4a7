-- What people chose to tell about themselves (purpose profile_details), sealed by
-- daemon/vault. What would hurt more lies apart, under keys of its own.

CREATE TABLE IF NOT EXISTS profile (
  user    INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  field   TEXT    NOT NULL,             -- city, gender, avatar
  sealed  BLOB    NOT NULL,
  changed INTEGER NOT NULL,             -- Unix ms
  PRIMARY KEY (user, field)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS profile_sensitive (
  user    INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  field   TEXT    NOT NULL,             -- email, phone, nickname
  sealed  BLOB    NOT NULL,
  changed INTEGER NOT NULL,             -- Unix ms
  PRIMARY KEY (user, field)
) STRICT, WITHOUT ROWID;

-- What a device said about itself (purpose device_info): JSON, sealed.
CREATE TABLE IF NOT EXISTS device_about (
  device  INTEGER PRIMARY KEY REFERENCES device (id) ON DELETE CASCADE,
  user    INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  sealed  BLOB    NOT NULL,
  changed INTEGER NOT NULL              -- Unix ms
) STRICT;

CREATE INDEX IF NOT EXISTS device_about_user ON device_about (user, device);
