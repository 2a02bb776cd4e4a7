// Package problem is the one kind of error that a person may read.
//
// Everything that leaves the box as an error, by whatever protocol, is an Error
// of a closed list of kinds: machines look at the kind, people read Title,
// Detail and Hint. Any other error is "internal" to the outside and whole in the
// log.
package problem

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Kind classifies an error for machines. The list is closed; each protocol has
// one table from kinds to its own codes.
type Kind string

// The kinds, with what the caller can do about them.
const (
	Invalid            Kind = "invalid"             // the request makes no sense: change it
	Unauthenticated    Kind = "unauthenticated"     // sign in
	CodeRequired       Kind = "code-required"       // add a code of the second factor
	StepUpRequired     Kind = "step-up-required"    // prove again who you are, then repeat the request
	Forbidden          Kind = "forbidden"           // this person may not do that
	ConsentRequired    Kind = "consent-required"    // grant the named purpose first
	NotFound           Kind = "not-found"           // nothing of that name is visible to the asker
	MethodNotAllowed   Kind = "method-not-allowed"  // the thing exists, the verb does not
	Conflict           Kind = "conflict"            // the state of the box does not allow it now
	PreconditionFailed Kind = "precondition-failed" // If-Match, If-None-Match, protocol version
	LengthRequired     Kind = "length-required"     // say how long the body is
	RangeUnsatisfiable Kind = "range-unsatisfiable" // the file has no such part
	TooLarge           Kind = "too-large"           // over a fixed limit
	UnsupportedMedia   Kind = "unsupported-media"   // wrong content type
	Misdirected        Kind = "misdirected"         // this box does not answer to that host name
	Mismatch           Kind = "mismatch"            // the bytes are not the announced ones: send again
	BodyNeeded         Kind = "body-needed"         // the box does not have that content yet: send the bytes
	Full               Kind = "full"                // the disk is full
	Quota              Kind = "quota"               // the person's share is used up
	RateLimited        Kind = "rate-limited"        // too many tries: wait RetryAfter
	Damaged            Kind = "damaged"             // the stored bytes are not what they were
	Gone               Kind = "gone"                // it was there once and will not come back
	Deleted            Kind = "deleted"             // its owner deleted that content: send it again only on purpose
	Locked             Kind = "locked"              // somebody else holds it
	Unsupported        Kind = "unsupported"         // this version of the box does not do that
	Unavailable        Kind = "unavailable"         // not now: try again later
	Canceled           Kind = "canceled"            // the caller or a shutdown ended it
	Internal           Kind = "internal"            // a fault of ours: see the log
)

// Kinds lists every kind, for tables that must be complete.
func Kinds() []Kind {
	return []Kind{
		Invalid, Unauthenticated, CodeRequired, StepUpRequired, Forbidden, ConsentRequired, NotFound, MethodNotAllowed, Conflict,
		PreconditionFailed, LengthRequired, RangeUnsatisfiable, TooLarge, UnsupportedMedia, Misdirected, Mismatch,
		BodyNeeded, Full, Quota, RateLimited, Damaged, Gone, Deleted, Locked, Unsupported, Unavailable,
		Canceled, Internal,
	}
}

// Status returns the HTTP status code for k (RFC 9110 §15, RFC 4918 §11,
// RFC 6585), 500 for an unknown kind.
func (k Kind) Status() int {
	switch k {
	case Invalid:
		return http.StatusBadRequest
	case Unauthenticated, CodeRequired:
		return http.StatusUnauthorized
	case Forbidden, StepUpRequired, ConsentRequired:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case Conflict, BodyNeeded:
		return http.StatusConflict
	case PreconditionFailed:
		return http.StatusPreconditionFailed
	case LengthRequired:
		return http.StatusLengthRequired
	case RangeUnsatisfiable:
		return http.StatusRequestedRangeNotSatisfiable
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case UnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case Misdirected:
		return http.StatusMisdirectedRequest
	case Mismatch:
		return http.StatusUnprocessableEntity
	case Full, Quota:
		return http.StatusInsufficientStorage
	case RateLimited:
		return http.StatusTooManyRequests
	case Gone, Deleted:
		return http.StatusGone
	case Locked:
		return http.StatusLocked
	case Unsupported:
		return http.StatusNotImplemented
	case Unavailable, Canceled:
		return http.StatusServiceUnavailable
	case Damaged, Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// Type returns the URI that identifies k in an RFC 9457 document. It is stable.
func (k Kind) Type() string { return "urn:yunbox:problem:" + string(k) }

// Title returns the short text for k that an Error shows if it has none itself.
func (k Kind) Title() string {
	switch k {
	case Invalid:
		return "The request makes no sense"
	case Unauthenticated:
		return "Sign in first"
	case CodeRequired:
		return "A code is needed, too"
	case StepUpRequired:
		return "Prove again that it is you"
	case Forbidden:
		return "That is not allowed"
	case ConsentRequired:
		return "Consent is needed first"
	case NotFound:
		return "There is nothing of that name"
	case MethodNotAllowed:
		return "That cannot be done here"
	case Conflict:
		return "That does not fit the state of the box"
	case PreconditionFailed:
		return "The condition of the request does not hold"
	case LengthRequired:
		return "The length must be known"
	case RangeUnsatisfiable:
		return "That part of the file does not exist"
	case TooLarge:
		return "That is too large"
	case UnsupportedMedia:
		return "That content type is not understood"
	case Misdirected:
		return "This box does not answer to that name"
	case Mismatch:
		return "The bytes that arrived are not the announced ones"
	case BodyNeeded:
		return "The box does not have this content yet"
	case Full:
		return "The box is full"
	case Quota:
		return "Your share of the box is used up"
	case RateLimited:
		return "Too many tries"
	case Damaged:
		return "The stored file is damaged"
	case Gone:
		return "That is gone"
	case Deleted:
		return "You deleted this from the box"
	case Locked:
		return "Somebody else is using that"
	case Unsupported:
		return "This box cannot do that"
	case Unavailable:
		return "The box cannot do that right now"
	case Canceled:
		return "The request was ended early"
	case Internal:
		return "The box made a mistake"
	}
	return "The box made a mistake"
}

// Error is an error that a person may read. Its fields must hold no secret and
// no other person's data.
type Error struct {
	Kind   Kind
	Op     string // for the log: "ingest.finish"
	Title  string // one short sentence without a full stop; "" takes the kind's
	Detail string // what happened in this case
	Hint   string // what to do next
	// Type replaces the URI of the kind where the specification of a protocol has
	// registered one of its own for this very case; "" takes the kind's.
	Type string
	// Members are RFC 9457 §3.2 extension members, such as "purpose".
	Members    map[string]any
	RetryAfter time.Duration // with RateLimited and Unavailable; 0: not said
	Err        error         // the cause: logged, never shown
}

// Error returns everything, cause included: it is for logs, not for people.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(e.title())
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is an *Error of the same kind and nothing else set,
// so that errors.Is(err, &problem.Error{Kind: problem.Full}) asks for a kind.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Detail == "" && t.Op == "" && t.Err == nil
}

func (e *Error) title() string {
	if e.Title != "" {
		return e.Title
	}
	return e.Kind.Title()
}

// As returns the Error in err's chain. Any other error becomes Internal, and the
// end of a context Canceled, with a neutral text and err as the cause. It
// returns nil only for nil.
func As(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		if e.Title == "" {
			c := *e
			c.Title = e.Kind.Title()
			return &c
		}
		return e
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Kind: Canceled, Title: Canceled.Title(), Hint: "Try again.", Err: err}
	}
	return &Error{
		Kind: Internal, Title: Internal.Title(), Err: err,
		Detail: "Something went wrong inside the box. Nothing that it acknowledged is affected.",
		Hint:   "Try again; if it happens again, the box's log says more.",
	}
}

// KindOf returns the kind of err, "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	return As(err).Kind
}

// Sentence renders err for a terminal: title, detail and hint of an Error, the
// plain text of any other error.
func Sentence(err error) string {
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	s := e.title()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Hint != "" {
		s += "\n" + e.Hint
	}
	return s
}

// Exit codes of our programs; docs/exit-codes.md explains them.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitPartly      = 3
	ExitConsent     = 4
	ExitUnreachable = 5
	ExitSignIn      = 6
	ExitFull        = 7
	ExitLocked      = 8
)

// ExitCode returns the exit code of a program that ends with err.
func ExitCode(err error) int {
	switch KindOf(err) {
	case "":
		return ExitOK
	case Invalid:
		return ExitUsage
	case ConsentRequired:
		return ExitConsent
	case Unauthenticated, CodeRequired, StepUpRequired:
		return ExitSignIn
	case Full, Quota:
		return ExitFull
	case Locked:
		return ExitLocked
	case Unavailable:
		return ExitUnreachable
	case Forbidden, NotFound, MethodNotAllowed, Conflict, PreconditionFailed, LengthRequired,
		RangeUnsatisfiable, TooLarge, UnsupportedMedia, Misdirected, Mismatch, BodyNeeded, RateLimited, Damaged, Gone, Deleted,
		Unsupported, Canceled, Internal:
		return ExitFailed
	}
	return ExitFailed
}

// Bytes writes a size for people, in decimal units as phones and disks count.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for f >= 999.95 && unit < 5 {
		f, unit = f/1000, unit+1
	}
	return fmt.Sprintf("%.1f %s", f, []string{"B", "kB", "MB", "GB", "TB", "PB"}[unit])
}
