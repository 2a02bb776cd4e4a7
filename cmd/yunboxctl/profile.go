package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// profile is what login saves: where the box is, its key, and who signed in.
type profile struct {
	Box         string `json:"box"`         // https://host:port
	Fingerprint string `json:"fingerprint"` // pin of its key
	Username    string `json:"username"`
	Token       string `json:"token"` // of the session
}

func (a *app) profilePath() (string, error) {
	if a.profile != "" {
		return a.profile, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", usagef("there is no configuration directory (%v): name a file with --profile", err)
	}
	return filepath.Join(dir, "yunbox", "profile.json"), nil
}

// loadProfile returns the saved profile, the zero profile if there is none.
func (a *app) loadProfile() (profile, error) {
	path, err := a.profilePath()
	if err != nil {
		return profile{}, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return profile{}, nil
	}
	if err != nil {
		return profile{}, err
	}
	var p profile
	if err := json.Unmarshal(b, &p); err != nil {
		return profile{}, fmt.Errorf("the profile %s is damaged (%w): remove it and log in again", path, err)
	}
	return p, nil
}

// saveProfile replaces the profile; only its owner can read it.
func (a *app) saveProfile(p profile) error {
	path, err := a.profilePath()
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return replaceFile(path, append(b, '\n'))
}

// replaceFile writes a file that appears whole or not at all, readable by its
// owner only.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
