package api

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

const (
	recordStatement     = "yunbox-record/1"
	recordStatementType = "yunbox-record+jws"
)

func (a *API) registerRecord() {
	register(a, route{
		Method: "GET", Path: "/v1/record", ID: "get-record", Tag: "consent",
		Summary: "Where the box's records of acts, of consents and of what left it stand, signed",
		Description: "The records are chains: the hash of an entry covers all before it. An app keeps the last answer and asks with its numbers the next time. " +
			"If `then` is absent or has another hash than was kept, the record was cut or rewritten since, whoever did it, and both signed answers prove it. " +
			"The hashes say nothing about what the entries contain.\n\n" +
			"`jws` is a JSON Web Signature (RFC 7515, ES256) by the box's own key. " +
			"Its protected header is exactly `{\"alg\":\"ES256\",\"typ\":\"" + recordStatementType + "\",\"kid\":\"<box.key>\"}` and its payload the JSON of all other members.",
	}, httpd.Files, a.standing)
}

type recordInput struct {
	Audit   int64 `query:"audit" minimum:"0" doc:"Number of an entry of the record of acts that was kept; 0: none"`
	Consent int64 `query:"consent" minimum:"0" doc:"Number of an entry of the record of consents that was kept; 0: none"`
	Outside int64 `query:"disclosure" minimum:"0" doc:"Number of an entry of the register of what left the box that was kept; 0: none"`
}

type recordAnswer struct {
	Body RecordStatement
}

// RecordStatement says where the records stood, at Time.
type RecordStatement struct {
	Schema  string     `json:"schema_version" enum:"yunbox-record/1"`
	Box     ReceiptBox `json:"box"`
	Time    moment     `json:"time" doc:"By the box's clock"`
	Audit   Standing   `json:"audit" doc:"Of who did what"`
	Consent Standing   `json:"consent" doc:"Of who consented to what"`
	Outside Standing   `json:"disclosure" doc:"Of what left the box"`
	JWS     string     `json:"jws,omitempty" doc:"All of the above, signed"`
}

// Standing is where one record stands.
type Standing struct {
	Last audit.Mark  `json:"last"`
	Then *audit.Mark `json:"then,omitempty" doc:"The entry that was asked for, as it is now; absent: there is none"`
}

func (a *API) standing(ctx context.Context, in *recordInput) (*recordAnswer, error) {
	s := RecordStatement{Schema: recordStatement, Time: moment(time.Now())}
	var err error
	if s.Audit.Last, s.Audit.Then, err = a.audit.Marks(ctx, in.Audit); err != nil {
		return nil, err
	}
	if s.Consent.Last, s.Consent.Then, err = a.consent.Marks(ctx, in.Consent); err != nil {
		return nil, err
	}
	if s.Outside.Last, s.Outside.Then, err = a.outside.Marks(ctx, in.Outside); err != nil {
		return nil, err
	}
	if s.Box, err = a.signingBox(); err != nil {
		return nil, err
	}
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	s.JWS, err = a.consent.Sign(recordStatementType, payload)
	return &recordAnswer{Body: s}, err
}

// keptMarks reads marks of the form SEQ:HASH.
func keptMarks(list []string) ([]audit.Mark, error) {
	var marks []audit.Mark
	for _, s := range list {
		number, hash, _ := strings.Cut(s, ":")
		seq, err := strconv.ParseInt(number, 10, 64)
		if err != nil || seq < 0 || len(hash) != 64 || strings.Trim(hash, "0123456789abcdef") != "" {
			return nil, &problem.Error{
				Kind: problem.Invalid, Op: "api.record", Title: "That is no mark of a record",
				Hint: "A mark is a number, a colon and 64 hex digits, as `yunboxctl audit keep` shows it.",
			}
		}
		marks = append(marks, audit.Mark{Seq: seq, Hash: hash})
	}
	return marks, nil
}
