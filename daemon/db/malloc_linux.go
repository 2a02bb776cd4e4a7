package db

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
static void one_arena(void) { mallopt(M_ARENA_MAX, 1); }
static void trim(void) { malloc_trim(0); }
#else
static void one_arena(void) {}
static void trim(void) {}
#endif
*/
import "C"

// OneArena has the C library, from which SQLite takes its memory, serve all threads from
// one place. By default each of our many threads gets one of its own, and what one has
// freed no other uses: under load that grew to 24 MiB, of which a third was in use. Call
// it before the first database is opened. Elsewhere than with glibc it does nothing.
func OneArena() { C.one_arena() }

// trim gives the system back what SQLite has freed. The C library keeps it otherwise:
// after a generation was made, that was as much as the whole rest of the box has.
func trim() { C.trim() }
