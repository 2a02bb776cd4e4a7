package webdav

// Queries returns every query that a client can cause, with arguments of the right
// types, for the test of query plans.
func Queries() map[string][]any {
	return map[string][]any{
		locksAt: {1, "[]", 1}, lockBelow: {1, "a/", "a0", 1, "[]"}, lockByToken: {1, "t", 1}, countLocks: {1, 1},
		dropLocks: {1, "a/", "a0"}, dropLocksAt: {1, "a"}, lockWithin: {1, "a/", "a0", true},
		itemProperties: {"[]"}, folderProperties: {"[]"}, dropItemProperty: {1, "a", "b"}, dropFolderProperty: {1, "a", "b"},
		itemUse: {1}, folderUse: {1}, personUse: {1}, copyItemProperties: {1, 2}, copyFolderProperties: {1, 2},
		dropItemSpelling: {1, "s"}, dropFolderSpelling: {1, "s"}, clearItem: {1}, clearFolder: {1}, dropExpired: {1, 1},
		`DELETE FROM item WHERE id = ?`: {1}, `DELETE FROM folder WHERE id = ?`: {1}, // properties go with them
	}
}

// How many locks a person may hold in all, and on one file.
const (
	MaxLocks    = maxLocks
	MaxTogether = maxTogether
)
