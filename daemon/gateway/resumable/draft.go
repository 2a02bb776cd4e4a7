package resumable

import (
	"maps"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

// A draft is the form of the IETF's protocol that a request speaks. The forms are
// ordered: what one of them brought, all after it have.
type draft int

// The forms. A number is the draft's interop version ("Draft Version
// Identification"), which requests say in Upload-Draft-Interop-Version.
const (
	plain  draft = 0  // no form that we know: an upload without any means to go on
	draft3 draft = 3  // -01 (iOS 17): Upload-Incomplete
	draft5 draft = 5  // -03 (iOS 18.0); 4 was -02: Upload-Complete
	draft6 draft = 6  // -04, -05 (iOS 18.1): application/partial-upload, Upload-Limit, two problem types
	draft7 draft = 7  // -06 to -08: the third problem type, max-age; 201 is no longer asked for
	draft8 draft = 8  // -09 to -11 (iOS 26)
	draft9 draft = 9  // -12
	final  draft = 10 // without a version, as the RFC will have it
)

const (
	versionField    = "Upload-Draft-Interop-Version"
	completeField   = "Upload-Complete"
	incompleteField = "Upload-Incomplete"

	partialType = "application/partial-upload"
)

// speaksTus says whether a request is one of tus: it says so, or it uses words
// that the IETF's protocol has only beside its own.
func speaksTus(r *http.Request) bool {
	has := func(name string) bool { return r.Header.Get(name) != "" }
	switch {
	case has("Tus-Resumable"):
		return true
	case slices.ContainsFunc([]string{versionField, completeField, incompleteField}, has):
		return false
	}
	return slices.ContainsFunc([]string{"Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Checksum", "Upload-Concat", "X-HTTP-Method-Override"}, has) ||
		mediaType(r) == chunkType || r.Method == http.MethodPost && r.ContentLength == 0
}

// draftOf is the form of a request to an upload. Whoever has its address was told
// so in a form that we know: an unknown version is taken for the newest.
func draftOf(r *http.Request) draft {
	if d := version(r); d >= draft3 && d <= draft9 {
		return d
	}
	return final
}

// version is what a request says: final if it says nothing.
func version(r *http.Request) draft {
	if len(r.Header.Values(versionField)) == 0 {
		return final
	}
	n, ok := integer(r.Header, versionField)
	if !ok || n > int64(draft9) {
		return plain
	}
	return draft(n)
}

// creation reads from a request for a new upload which form it speaks and whether
// its body is to be the whole file. A request of no known form is an ordinary
// upload; but one that announces a part cannot be: the part would become the file.
func creation(r *http.Request) (d draft, whole bool, err error) {
	d = version(r)
	whole, said := d.completes(r.Header)
	if d >= draft3 && said {
		return d, whole, nil
	}
	complete, completeSaid := boolean(r.Header, completeField)
	incomplete, incompleteSaid := boolean(r.Header, incompleteField)
	if r.Header.Get(completeField) != "" && !(completeSaid && complete) ||
		r.Header.Get(incompleteField) != "" && !(incompleteSaid && !incomplete) ||
		r.Header.Get("Content-Range") != "" {
		return plain, false, &problem.Error{
			Kind: problem.Invalid, Op: "resumable.create", Title: "Parts of a file cannot be taken in that form",
			Detail: "The request announces a part, in a version of the protocol or with a field that is not understood.",
			Hint:   "Send the whole file in one request, or use a version from 3 to 9.",
		}
	}
	return plain, true, nil
}

// completes says whether the end of a request's body is to be the end of the
// file, and whether the request says anything valid about that.
func (d draft) completes(h http.Header) (complete, said bool) {
	if d == draft3 {
		incomplete, said := boolean(h, incompleteField)
		// Left out, it is complete (-01, "Offset Retrieving Procedure").
		return said && !incomplete || h.Get(incompleteField) == "", said
	}
	return boolean(h, completeField)
}

// setComplete says whether an upload is complete, in the words of the form.
func (d draft) setComplete(h http.Header, complete bool) {
	name, value := completeField, complete
	if d == draft3 {
		name, value = incompleteField, !complete
	}
	if value {
		h.Set(name, "?1")
	} else {
		h.Set(name, "?0")
	}
}

// saysComplete reports whether an answer says something about completeness yet.
func (d draft) saysComplete(h http.Header) bool {
	return h.Get(completeField) != "" || h.Get(incompleteField) != ""
}

// setVersion says which form an answer is in.
func (d draft) setVersion(h http.Header) {
	if d >= draft3 && d <= draft9 {
		h.Set(versionField, strconv.Itoa(int(d)))
	}
}

// setLimits tells the bounds of an upload that lives for left. There is none for
// a single request: iOS sends whole videos in one.
func (d draft) setLimits(h http.Header, left time.Duration) {
	if d < draft6 {
		return
	}
	age := "max-age"
	if d == draft6 {
		age = "expires"
	}
	h.Set("Upload-Limit", maxSizeLimit()+", "+age+"="+strconv.FormatInt(max(int64(left/time.Second), 0), 10))
}

func maxSizeLimit() string { return "max-size=" + strconv.FormatInt(ingest.MaxSize, 10) }

// announce tells where an upload can be gone on with before its body is read:
// 104 Upload Resumption Supported. Of what the final answer is going to say, it
// says nothing.
func (d draft) announce(w http.ResponseWriter, r *http.Request, id string, left time.Duration) {
	if !r.ProtoAtLeast(1, 1) {
		return // RFC 9110 §15.2
	}
	h := w.Header()
	kept := maps.Clone(h)
	clear(h)
	d.setVersion(h)
	d.setLimits(h, left)
	setLocation(w, r, id)
	w.WriteHeader(statusResumptionSupported)
	clear(h)
	if r.ProtoMajor > 1 && r.ContentLength != 0 {
		// net/http takes the 104 for the answer on HTTP/2 and leaves out the "100
		// Continue" that it owes when the body is read; whether the client waits for
		// it, it does not tell us. Others ignore it (RFC 9110 §15.2).
		w.WriteHeader(http.StatusContinue)
	}
	maps.Copy(h, kept)
}

// statusResumptionSupported is the interim answer "Upload Resumption Supported".
const statusResumptionSupported = 104

// The problem types that the drafts register ("Problem Types").
const (
	typeOffset    = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
	typeCompleted = "https://iana.org/assignments/http-problem-types#completed-upload"
	typeLength    = "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"
)

// wrongOffset is the answer to bytes that do not belong where the upload stands.
func (d draft) wrongOffset(w http.ResponseWriter, have, got int64) error {
	p := wrongOffset(w, have)
	if d >= draft6 {
		p.Type = typeOffset
		p.Members = map[string]any{"expected-offset": have, "provided-offset": got}
	}
	return p
}

// alreadyComplete is the answer to bytes for an upload that has all of them (-04
// to -11; -12 has it no longer).
func alreadyComplete() error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "resumable.append", Title: "The upload is finished", Type: typeCompleted,
		Detail: "All of the file has arrived and is stored.", Hint: "There is nothing left to send.",
	}
}

// wrongLength is the answer to lengths that contradict each other.
func (d draft) wrongLength(detail string) error {
	p := &problem.Error{
		Kind: problem.Invalid, Op: "resumable.length", Title: "The lengths of the upload do not agree",
		Detail: detail, Hint: "Begin another upload if the file has changed; else send what is missing, and no more.",
	}
	if d >= draft7 {
		p.Type = typeLength
	}
	return p
}

// length is how many bytes the file has as far as a request tells, beginning at
// offset, and known the length from before; -1: nobody has said it yet.
//
// Upload-Length counts in every form, though it came with 6: whoever sends it
// means it.
func (d draft) length(r *http.Request, offset int64, whole bool, known int64) (int64, error) {
	lengths := make([]int64, 0, 3)
	if known >= 0 {
		lengths = append(lengths, known)
	}
	if n, ok := integer(r.Header, "Upload-Length"); ok {
		lengths = append(lengths, n)
	}
	end := int64(-1)
	if r.ContentLength >= 0 {
		end = r.ContentLength + min(offset, math.MaxInt64-r.ContentLength)
	}
	if whole && end >= 0 {
		lengths = append(lengths, end)
	}
	if len(lengths) == 0 {
		return -1, nil
	}
	switch n := lengths[0]; {
	case slices.Min(lengths) != slices.Max(lengths):
		return 0, d.wrongLength("Upload-Length, Content-Length and what was said before name different lengths.")
	case end > n:
		return 0, d.wrongLength("The body goes beyond the end of the file.")
	case n > ingest.MaxSize:
		return 0, &problem.Error{
			Kind: problem.TooLarge, Op: "resumable", Title: "No file of that size is taken",
			Hint: "OPTIONS " + basePath + " tells the largest as Tus-Max-Size.",
		}
	default:
		return n, nil
	}
}

// item is the value of a structured field that holds one item, without
// parameters (RFC 8941 §3.3).
func item(h http.Header, name string) string {
	v, _, _ := strings.Cut(strings.Join(h.Values(name), ","), ";")
	return strings.Trim(v, " ")
}

// boolean reads a field that is a Boolean (RFC 8941 §3.3.6).
func boolean(h http.Header, name string) (value, ok bool) {
	switch item(h, name) {
	case "?1":
		return true, true
	case "?0":
		return false, true
	}
	return false, false
}

// integer reads a field that is an Integer and not negative (RFC 8941 §3.3.1).
func integer(h http.Header, name string) (int64, bool) {
	v := item(h, name)
	if len(v) == 0 || len(v) > 15 || strings.Trim(v, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil
}

func mediaType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}
