package nextcloud

// Queries returns every query that a client can cause, with arguments of the right
// types, for the test of query plans.
func Queries() map[string][]any {
	return map[string][]any{
		folderAt: {1, "a", "b"}, foldersOf: {1, "a"}, unfinished: {1}, longestIdle: {1}, sumOfChunks: {"u"},
		chunkAt: {"u", 1}, chunksAfter: {"u", 1, 100}, sha1Of: {"r"}, chunkBehind: {"u", 1},
		sumOfEarly: {"u"}, earlyAt: {"u", 1}, firstEarly: {"u"}, earlyAfter: {"u", 1, 100}, stagedOf: {"u"},
		`DELETE FROM upload WHERE id = ?`: {"u"}, // folder and chunks go with it
	}
}
