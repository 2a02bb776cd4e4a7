-- How long a person's deletions are remembered against backups, which refusals a
-- device met, and when a content was last read back. What was deleted before this
-- was there counts like the rest.
ALTER TABLE user ADD COLUMN decline_days INTEGER NOT NULL DEFAULT 365 CHECK (decline_days BETWEEN 0 AND 36500);
ALTER TABLE upload ADD COLUMN automatic INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE blob ADD COLUMN verified INTEGER;
