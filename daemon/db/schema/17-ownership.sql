-- That the owner offers the box to another person, who has not answered yet. It is taken
-- back, declined or accepted by deleting the row: there is nothing that counts after it.
CREATE TABLE IF NOT EXISTS ownership_offer (
  user   INTEGER PRIMARY KEY REFERENCES user (id) ON DELETE CASCADE,  -- the owner
  person INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,     -- to whom
  asked  INTEGER NOT NULL,              -- Unix ms
  due    INTEGER NOT NULL,              -- Unix ms by the sure clock: from then on it is none
  CHECK (person <> user)
) STRICT;
CREATE INDEX IF NOT EXISTS ownership_offer_person ON ownership_offer (person);
