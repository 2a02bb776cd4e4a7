-- How the source of a file is known, and when it was taken. Until now a source
-- was declared or not known at all.
ALTER TABLE item ADD COLUMN source_by TEXT NOT NULL DEFAULT 'declared';
ALTER TABLE item ADD COLUMN taken INTEGER;
ALTER TABLE item ADD COLUMN taken_local INTEGER NOT NULL DEFAULT 0;
ALTER TABLE item ADD COLUMN taken_from TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN source_by TEXT NOT NULL DEFAULT 'declared';
ALTER TABLE upload ADD COLUMN source_by TEXT NOT NULL DEFAULT 'declared';
UPDATE item SET source = 'other', source_by = 'none' WHERE source = '';
UPDATE version SET source = 'other', source_by = 'none' WHERE source = '';
UPDATE upload SET source = 'other', source_by = 'none' WHERE source = '';
