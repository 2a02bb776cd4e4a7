package nextcloud

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
)

// The version that the box says it has. Clients switch features on by it: the one
// for iOS lets the system do its uploads, while the app sleeps, from 33 on, and the
// others ask people to update a server that is out of support. It is to be raised
// once a year; no client that was read has an upper bound.
const (
	versionMajor  = 33
	versionNumber = "33.0.0.0"
	versionString = "33.0.0"
)

func noContent(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// status answers what clients ask before anybody has signed in.
func (h *Handler) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, struct {
		Installed       bool   `json:"installed"`
		Maintenance     bool   `json:"maintenance"`
		NeedsDBUpgrade  bool   `json:"needsDbUpgrade"`
		Version         string `json:"version"`
		VersionString   string `json:"versionstring"`
		Edition         string `json:"edition"`
		ProductName     string `json:"productname"`
		ExtendedSupport bool   `json:"extendedSupport"`
	}{Installed: true, Version: versionNumber, VersionString: versionString, ProductName: "Yunbox"})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only what can be encoded is given to it
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: there is nobody to tell
}

// An envelope is what every answer of the Open Collaboration Services lies in.
type envelope struct {
	XMLName xml.Name `json:"-" xml:"ocs"`
	Meta    struct {
		Status  string `json:"status" xml:"status"`
		Code    int    `json:"statuscode" xml:"statuscode"`
		Message string `json:"message" xml:"message"`
	} `json:"meta" xml:"meta"`
	Data any `json:"data" xml:"data"`
}

// answer writes data in an envelope, as JSON or as XML, which is the default.
func answer(w http.ResponseWriter, r *http.Request, status int, message string, data any) {
	e := envelope{Data: data}
	e.Meta.Status, e.Meta.Code, e.Meta.Message = "ok", status, message
	if status != http.StatusOK {
		e.Meta.Status = "failure"
	} else if strings.HasPrefix(r.URL.Path, "/ocs/v1.php") {
		e.Meta.Code = 100 // the first version has a number of its own for success
	}
	if format := r.URL.Query().Get("format"); format == "json" || format == "" && strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeJSON(w, status, struct {
			OCS envelope `json:"ocs"`
		}{e})
		return
	}
	body, err := xml.Marshal(e)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/xml; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), body...))
}

// fail answers with err in an envelope.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problem.As(err)
	text := p.Title + "."
	if p.Detail != "" {
		text += " " + p.Detail
	}
	if p.Hint != "" {
		text += " " + p.Hint
	}
	answer(w, r, p.Kind.Status(), text, struct{}{})
}

type version struct {
	Major           int    `json:"major" xml:"major"`
	Minor           int    `json:"minor" xml:"minor"`
	Micro           int    `json:"micro" xml:"micro"`
	String          string `json:"string" xml:"string"`
	Edition         string `json:"edition" xml:"edition"`
	ExtendedSupport bool   `json:"extendedSupport" xml:"extendedSupport"`
}

type capabilities struct {
	Version      version `json:"version" xml:"version"`
	Capabilities struct {
		Core struct {
			PollInterval int    `json:"pollinterval" xml:"pollinterval"`
			WebDAVRoot   string `json:"webdav-root" xml:"webdav-root"`
		} `json:"core" xml:"core"`
		DAV struct {
			Chunking string `json:"chunking" xml:"chunking"`
		} `json:"dav" xml:"dav"`
		Files struct {
			BigFileChunking bool `json:"bigfilechunking" xml:"bigfilechunking"`
			Undelete        bool `json:"undelete" xml:"undelete"`
			Versioning      bool `json:"versioning" xml:"versioning"`
			ChunkedUpload   struct {
				MaxSize          int64 `json:"max_size" xml:"max_size"`
				MaxParallelCount int   `json:"max_parallel_count" xml:"max_parallel_count"`
			} `json:"chunked_upload" xml:"chunked_upload"`
		} `json:"files" xml:"files"`
		Checksums struct {
			SupportedTypes      []string `json:"supportedTypes" xml:"supportedTypes>element"`
			PreferredUploadType string   `json:"preferredUploadType" xml:"preferredUploadType"`
		} `json:"checksums" xml:"checksums"`
		FilesSharing struct {
			APIEnabled bool `json:"api_enabled" xml:"api_enabled"`
		} `json:"files_sharing" xml:"files_sharing"`
		Theming struct {
			Name string `json:"name" xml:"name"`
		} `json:"theming" xml:"theming"`
	} `json:"capabilities" xml:"capabilities"`
}

// maxChunk is the size in bytes up to which clients may let their chunks grow: what
// has to be sent again after a cut.
const maxChunk = 50 << 20

func (h *Handler) capabilities(w http.ResponseWriter, r *http.Request) {
	var c capabilities
	c.Version = version{Major: versionMajor, String: versionString}
	all := &c.Capabilities
	all.Core.PollInterval, all.Core.WebDAVRoot = 60, strings.Trim(legacyPrefix, "/")
	all.DAV.Chunking = "1.0"
	all.Files.BigFileChunking, all.Files.Undelete = true, false
	all.Files.ChunkedUpload.MaxSize, all.Files.ChunkedUpload.MaxParallelCount = maxChunk, 1
	all.Checksums.SupportedTypes, all.Checksums.PreferredUploadType = []string{"SHA1", "SHA256"}, "SHA1"
	all.Theming.Name = h.Name()
	answer(w, r, http.StatusOK, "OK", c)
}

type quota struct {
	Free     int64   `json:"free" xml:"free"`
	Used     int64   `json:"used" xml:"used"`
	Total    int64   `json:"total" xml:"total"`
	Relative float64 `json:"relative" xml:"relative"` // per cent
	Quota    int64   `json:"quota" xml:"quota"`
}

type person struct {
	ID           string  `json:"id" xml:"id"`
	Enabled      bool    `json:"enabled" xml:"enabled"`
	DisplayName  string  `json:"displayname" xml:"displayname"`
	DisplayName2 string  `json:"display-name" xml:"display-name"`
	Email        *string `json:"email" xml:"email"`
	Quota        quota   `json:"quota" xml:"quota"`
}

// noLimit is the quota of somebody without one.
const noLimit = -3

func (h *Handler) user(w http.ResponseWriter, r *http.Request) {
	who := principal(r)
	if name := r.PathValue("user"); name != "" && !strings.EqualFold(name, who.Name) {
		fail(w, r, &problem.Error{
			Kind: problem.NotFound, Op: "nextcloud.user", Detail: "You can ask about yourself only.", Hint: "Use your own user name.",
		})
		return
	}
	q, err := h.room(r)
	if err != nil {
		fail(w, r, err)
		return
	}
	answer(w, r, http.StatusOK, "OK", person{ID: who.Name, Enabled: true, DisplayName: who.Name, DisplayName2: who.Name, Quota: q})
}

// room is how much room the asker has.
func (h *Handler) room(r *http.Request) (q quota, err error) {
	var usage catalog.Usage
	err = h.DB.Read(r.Context(), func(tx *db.Tx) (err error) {
		usage, err = h.Catalog.UsageIn(tx, principal(r).User)
		return err
	})
	if err != nil {
		return q, err
	}
	space, err := h.Store.Space()
	if err != nil {
		return q, err
	}
	q = quota{Free: space.Free, Used: usage.Bytes, Quota: noLimit}
	if usage.Quota >= 0 {
		q.Quota, q.Free = usage.Quota, max(min(q.Free, usage.Quota-usage.Bytes), 0)
	}
	if q.Total = q.Used + q.Free; q.Total > 0 {
		q.Relative = float64(q.Used*10000/q.Total) / 100
	}
	return q, nil
}

// getAppPassword is asked by clients that were given the password of the account,
// to have one of their own. The box makes those only where the person signs in.
func (h *Handler) getAppPassword(w http.ResponseWriter, r *http.Request) {
	fail(w, r, &problem.Error{
		Kind: problem.Forbidden, Op: "nextcloud.password", Title: "An app password is made on the box's page only",
		Detail: "What an app was given cannot be turned into another password.", Hint: "Sign in from the app anew, or make one on the page under devices.",
	})
}

// deleteAppPassword ends the app token that the request carries: somebody signed
// out of the app.
func (h *Handler) deleteAppPassword(w http.ResponseWriter, r *http.Request) {
	if err := h.Accounts.EndOwnToken(r.Context(), principal(r)); err != nil {
		fail(w, r, err)
		return
	}
	answer(w, r, http.StatusOK, "OK", struct{}{})
}
