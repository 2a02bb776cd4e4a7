// Package secrets keeps the few secrets that the box needs towards servers elsewhere: the
// password of a mail server, the secret of a service that people sign in with. They
// stand in no settings file: root gives them over the unix socket, and nobody gets them
// back from there.
package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs"
)

// fileName is keys/outside.json, mode 0400, like all keys of the box.
const fileName = "outside.json"

const (
	maxSecrets = 64
	maxSecret  = 16 << 10 // bytes: a private key fits
)

// Secrets are those of one box. It is safe for concurrent use.
type Secrets struct {
	keys vfs.FS
	mu   sync.Mutex
}

// New returns the secrets in the folder keys/. It reads nothing yet.
func New(keys vfs.FS) *Secrets { return &Secrets{keys: keys} }

type file struct {
	Version int               `json:"version"`
	Secrets map[string]string `json:"secrets"`
}

func (s *Secrets) read() (map[string]string, error) {
	data, err := vfs.ReadFile(s.keys, fileName)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil || f.Version != 1 || f.Secrets == nil {
		return nil, &problem.Error{Kind: problem.Damaged, Op: "secrets", Title: "The secrets for servers elsewhere cannot be read", Err: err,
			Detail: "keys/" + fileName + " is damaged, or of a newer version.", Hint: "Remove it, then give the secrets again with `yunboxctl secret set`."}
	}
	return f.Secrets, nil
}

// Get returns the secret of that name, and whether there is one.
func (s *Secrets) Get(name string) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.read()
	v, ok := all[name]
	return v, ok, err
}

// Names lists what there is, without its values.
func (s *Secrets) Names() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.read()
	return slices.Sorted(maps.Keys(all)), err
}

// Set keeps a secret under a name of a-z, 0-9, dots and hyphens; "" forgets it. It is
// durable when Set returns.
func (s *Secrets) Set(name, value string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || len(value) > maxSecret {
		return &problem.Error{Kind: problem.Invalid, Op: "secrets", Title: "That cannot be kept as a secret",
			Hint: "A name has small letters, digits, dots and hyphens, at most 64 of them; a secret has at most 16 kB."}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.read()
	if err != nil {
		return err
	}
	if value == "" {
		delete(all, name)
	} else {
		all[name] = value
	}
	if len(all) > maxSecrets {
		return &problem.Error{Kind: problem.TooLarge, Op: "secrets", Title: "There are too many secrets", Hint: "Remove those that no setting needs."}
	}
	data, err := json.Marshal(file{1, all})
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(s.keys, fileName, append(data, '\n'), 0o400); err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	return nil
}

// Routes adds the maintenance operations on the unix socket.
func (s *Secrets) Routes(handle func(pattern string, h func(http.ResponseWriter, *http.Request) error)) {
	handle("GET /local/secrets", func(w http.ResponseWriter, _ *http.Request) error {
		names, err := s.Names()
		if err != nil {
			return err
		}
		httpd.WriteJSON(w, http.StatusOK, struct {
			Names []string `json:"names"`
		}{append([]string{}, names...)})
		return nil
	})
	handle("PUT /local/secrets/{name}", func(w http.ResponseWriter, r *http.Request) error {
		var in struct {
			Value string `json:"value"`
		}
		if err := httpd.ReadJSON(w, r, &in, 2*maxSecret); err != nil {
			return err
		}
		if err := s.Set(r.PathValue("name"), in.Value); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}
