package db

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
// A thread keeps the arena it once got, and the first get theirs before main runs.
__attribute__((constructor)) static void one_arena(void)
{
	if (getenv("MALLOC_ARENA_MAX") == NULL)
		mallopt(M_ARENA_MAX, 1);
}
static void trim(void) { malloc_trim(0); }
#else
static void trim(void) {}
#endif
*/
import "C"

// The C library, from which SQLite takes its memory, serves all threads from one place in
// a program that has this package, unless its environment says otherwise. By default each
// of our many threads gets one of its own, and what one has freed no other uses: under
// load that grew to 24 MiB, of which a third was in use. Only the first arena grows and
// shrinks by more than a page at a time, too.

// trim gives the system back what SQLite has freed. The C library keeps it otherwise:
// after a generation was made, that was as much as the whole rest of the box has.
func trim() { C.trim() }
