package api

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

const (
	maxVerify     = 1000
	maxVerifyBody = 128 << 10
	// One request reads back no more than this, except that it always reads one
	// file, however large: whoever asks again for the rest makes progress.
	verifyBytes = 2 << 30
	verifyTime  = 15 * time.Second
	// verifySilence is how long the line may be silent: iOS gives up after about
	// twenty seconds. JSON may begin with white space.
	verifySilence = 5 * time.Second

	storageReceipt     = "yunbox-storage-receipt/1"
	storageReceiptType = "yunbox-storage-receipt+jws"
)

func (a *API) registerVerify() {
	stream[verifyInput, verifyAnswer](a, route{
		Method: "POST", Path: "/v1/blobs/verify", ID: "verify-blobs", Tag: "files", Status: 200, MaxBody: maxVerifyBody,
		Summary: "Whether these contents of the asker are on the disk, as a receipt that the box signs",
		Description: "Up to 1,000 hashes. Before an app frees space it asks this and keeps `jws`: only what is `stored` is safe. " +
			"With `read` the box reads the bytes back now and compares them, up to 2 GiB or 15 seconds a request and one file at least; " +
			"`complete` false says that the rest is to be asked again. What is found damaged or missing counts as not known from then on, " +
			"so that a backup sends it again. The answer may begin with white space, which keeps the line from going silent.\n\n" +
			"`jws` is a JSON Web Signature (RFC 7515, ES256) by the box's own key, whose fingerprint the app has pinned (`box.key` is the SHA-256 of `box.spki`). " +
			"Its protected header is exactly `{\"alg\":\"ES256\",\"typ\":\"" + storageReceiptType + "\",\"kid\":\"<box.key>\"}` and its payload the JSON of all other members.",
	}, httpd.Files, "/v1/blobs/verify", nil, a.verify)
}

type verifyInput struct {
	Body struct {
		SHA256 []string `json:"sha256" maxItems:"1000" pattern:"^[0-9a-f]{64}$" patternDescription:"64 lower-case hex digits"`
		Read   bool     `json:"read,omitempty" doc:"Read the bytes back now"`
	} `nameHint:"VerifyQuestion"`
}

type verifyAnswer struct {
	Body StorageReceipt
}

// StorageReceipt says what the box found on its disk, at Time.
type StorageReceipt struct {
	Schema    string         `json:"schema_version" enum:"yunbox-storage-receipt/1"`
	Principal ident.UserID   `json:"pii_principal_id" doc:"Whose contents they are"`
	Box       ReceiptBox     `json:"box"`
	Time      moment         `json:"time" doc:"By the box's clock"`
	Unsure    bool           `json:"clock_unsure,omitempty" doc:"true: the box knows that its clock may well be wrong"`
	Complete  bool           `json:"complete" doc:"false: not everything that was to be read back could be in this request"`
	Items     []VerifiedItem `json:"items" doc:"One for each content that was asked for, in that order"`
	JWS       string         `json:"jws,omitempty" doc:"All of the above, signed"`
}

// ReceiptBox is the box that signs.
type ReceiptBox struct {
	ID   string `json:"id"`
	Key  string `json:"key" doc:"Fingerprint: base64url of the SHA-256 of spki"`
	SPKI string `json:"spki" doc:"The public key (SubjectPublicKeyInfo, DER) in base64"`
}

// VerifiedItem is what was found of one content.
type VerifiedItem struct {
	SHA256   storage.Ref `json:"sha256"`
	State    string      `json:"state" enum:"stored,trash,damaged,missing,unknown" doc:"stored: on the disk and kept. trash: on the disk, but its owner deleted it. damaged, missing: send it again. unknown: the asker does not keep it"`
	Size     *int64      `json:"size" minimum:"0" doc:"null: unknown"`
	Checked  string      `json:"checked" enum:"read,size,none" doc:"How it was looked at now. read: all its bytes were read back and compared; size: the file is there with its size"`
	ReadBack *moment     `json:"read_back" nullable:"true" doc:"When its bytes were last read back and were right; null: never since they were written"`
}

// verify answers as soon as it can, and keeps the line alive until then.
func (a *API) verify(w http.ResponseWriter, r *http.Request) {
	refs, read, err := verifyQuestion(w, r)
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	type result struct {
		receipt StorageReceipt
		err     error
	}
	done := make(chan result, 1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	who := principal(ctx).User
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- result{err: fmt.Errorf("api: panic in verify: %v", p)}
			}
		}()
		receipt, err := a.lookAt(ctx, who, refs, read)
		done <- result{receipt, err}
	}()
	h := w.Header()
	rc := http.NewResponseController(w)
	tick := time.NewTicker(verifySilence)
	defer tick.Stop()
	begun := false
	for {
		select {
		case <-tick.C:
			if !begun {
				begun = true
				h.Set("Content-Type", "application/json")
				h.Set("Cache-Control", "no-store")
			}
			_, err := w.Write([]byte("\n"))
			if errors.Join(err, rc.SetWriteDeadline(time.Now().Add(time.Minute)), rc.Flush()) != nil {
				cancel() // nobody listens any more
			}
		case x := <-done:
			switch {
			case x.err != nil && begun: // too late for a problem; half an answer must not look like one
				if ctx.Err() == nil {
					a.log.ErrorContext(ctx, "contents could not be verified", "error", x.err)
				}
				panic(http.ErrAbortHandler)
			case x.err != nil:
				httpd.WriteProblem(w, r, x.err)
			case begun:
				json.NewEncoder(w).Encode(x.receipt) // fails only if the client is gone
			default:
				httpd.WriteJSON(w, http.StatusOK, x.receipt)
			}
			return
		}
	}
}

func verifyQuestion(w http.ResponseWriter, r *http.Request) (refs []storage.Ref, read bool, err error) {
	var in struct {
		SHA256 *[]string `json:"sha256"`
		Read   bool      `json:"read"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxVerifyBody); err != nil {
		return nil, false, err
	}
	if in.SHA256 == nil || len(*in.SHA256) > maxVerify {
		return nil, false, &problem.Error{
			Kind: problem.Invalid, Op: "api.verify", Detail: fmt.Sprintf("A list of 0 to %d hashes is expected.", maxVerify), Hint: "Compare the request with /v1/openapi.json.",
		}
	}
	for _, s := range *in.SHA256 {
		ref, err := storage.ParseRef(s)
		if err != nil || ref.String() != s {
			return nil, false, &problem.Error{Kind: problem.Invalid, Op: "api.verify", Detail: "A hash is not 64 lower-case hex digits.", Hint: "Compare the request with /v1/openapi.json."}
		}
		refs = append(refs, ref)
	}
	return refs, in.Read, nil
}

// lookAt looks at the contents of u on the disk and signs what it found.
func (a *API) lookAt(ctx context.Context, u ident.UserID, refs []storage.Ref, read bool) (StorageReceipt, error) {
	holdings, err := a.catalog.Holdings(ctx, u, refs)
	if err != nil {
		return StorageReceipt{}, err
	}
	if read && len(holdings) > 0 {
		select {
		case a.reading <- struct{}{}:
			defer func() { <-a.reading }()
		case <-ctx.Done():
			return StorageReceipt{}, context.Cause(ctx)
		}
	}
	look := look{api: a, begin: time.Now()}
	found := make(map[storage.Ref]VerifiedItem, len(holdings))
	for _, h := range holdings {
		if _, twice := found[h.Ref]; twice {
			continue
		}
		item, err := look.at(ctx, h, read)
		if err != nil {
			return StorageReceipt{}, err
		}
		found[h.Ref] = item
	}
	if err := a.catalog.Found(context.WithoutCancel(ctx), catalog.ByVerify, look.findings); err != nil {
		return StorageReceipt{}, err
	}
	items := make([]VerifiedItem, 0, len(refs))
	for _, ref := range refs {
		item, ok := found[ref]
		if !ok {
			item = VerifiedItem{SHA256: ref, State: "unknown", Checked: "none"}
		}
		items = append(items, item)
	}
	now, unsure := a.box.Clock()
	return a.signed(StorageReceipt{Schema: storageReceipt, Principal: u, Time: moment(now), Unsure: unsure, Complete: !look.left, Items: items})
}

// signingBox is who signs receipts and statements.
func (a *API) signingBox() (ReceiptBox, error) {
	spki, err := x509.MarshalPKIXPublicKey(a.identity.Signer().Public())
	return ReceiptBox{ID: a.identity.ID(), Key: a.identity.Fingerprint(), SPKI: base64.StdEncoding.EncodeToString(spki)}, err
}

func (a *API) signed(r StorageReceipt) (_ StorageReceipt, err error) {
	if r.Box, err = a.signingBox(); err != nil {
		return r, err
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	r.JWS, err = a.consent.Sign(storageReceiptType, payload)
	return r, err
}

// look is one look at many contents.
type look struct {
	api      *API
	begin    time.Time
	bytes    int64 // that were read
	left     bool  // something was to be read and was not
	findings []catalog.Finding
}

// mayRead says whether a content of that size may be read in this request, too.
func (l *look) mayRead(size int64) bool {
	return l.bytes == 0 || l.bytes+size <= verifyBytes && time.Since(l.begin) < verifyTime
}

// at looks at one content. An error means that the look itself cannot go on.
func (l *look) at(ctx context.Context, h catalog.Holding, read bool) (VerifiedItem, error) {
	item := VerifiedItem{SHA256: h.Ref, State: "stored", Size: &h.Size, Checked: "size", ReadBack: momentOrNull(h.Verified)}
	if h.Trash {
		item.State = "trash"
	}
	deep := read && l.mayRead(h.Size)
	inspect := l.api.store.Look
	if deep {
		inspect = func(ctx context.Context, ref storage.Ref, size int64) (storage.Damage, error) {
			return l.api.store.Inspect(ctx, ref, size, nil)
		}
	}
	damage, err := inspect(ctx, h.Ref, h.Size)
	if err != nil {
		return item, err
	}
	if damage != storage.Sound {
		live, err := l.api.catalog.Live(ctx, h.Ref)
		if err != nil {
			return item, err
		}
		if !live { // its owner let it go while we looked
			return VerifiedItem{SHA256: h.Ref, State: "unknown", Checked: "none"}, nil
		}
		item.State, item.Checked = "damaged", "size"
		switch damage {
		case storage.Missing:
			item.State, item.Checked = "missing", "none"
		case storage.WrongBytes:
			item.Checked = "read"
		}
		l.findings = append(l.findings, catalog.Finding{Ref: h.Ref, Damage: damage})
		l.api.log.ErrorContext(ctx, "a stored content is damaged or missing; it will be asked for again", "ref", h.Ref, "damage", string(damage))
		return item, nil
	}
	if !deep {
		l.left = l.left || read
		if h.Doubted {
			item.State = "damaged"
		}
		return item, nil
	}
	l.bytes += max(h.Size, 1)
	now, _ := l.api.box.Clock()
	m := moment(now)
	item.Checked, item.ReadBack = "read", &m
	l.findings = append(l.findings, catalog.Finding{Ref: h.Ref, Time: now})
	return item, nil
}
