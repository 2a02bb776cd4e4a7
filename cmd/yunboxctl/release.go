package main

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/update/bundle"
)

const keyHead = "yunbox private key 1\n"

// releaseCommand is the maker's tool. It works on files and speaks to no box.
func (a *app) releaseCommand() *cobra.Command {
	top := &cobra.Command{Use: "release", Short: "For the maker of boxes: keys, and signing of updates"}
	keys := &cobra.Command{Use: "keys", Short: "Make keys, and say which may sign updates"}
	keys.AddCommand(a.newKeyCommand(), a.listKeysCommand(), a.signListCommand())
	top.AddCommand(keys, a.signReleaseCommand(), a.verifyReleaseCommand())
	return top
}

func (a *app) newKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "new FILE", Short: "Make a key", Args: cobra.ExactArgs(1),
		Long: `new makes an Ed25519 key. FILE gets the secret part: keep it off every network, on two
media. FILE.pub gets the public part, in base64.

Three such keys, with three people, are the root keys of a maker: the packages are built
with YUNBOX_ROOT_KEYS=PUB1,PUB2,PUB3. Two of the three sign the list of release keys.`,
		RunE: func(_ *cobra.Command, args []string) error {
			pub, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return err
			}
			if err := writeNew(args[0], []byte(keyHead+base64.StdEncoding.EncodeToString(key.Seed())+"\n"), 0o600); err != nil {
				return err
			}
			text := base64.StdEncoding.EncodeToString(pub)
			if err := writeNew(args[0]+".pub", []byte(text+"\n"), 0o644); err != nil {
				return err
			}
			mini, err := bundle.MinisignKey(pub)
			if err != nil {
				return err
			}
			return a.print(map[string]string{"id": string(bundle.IDOf(pub)), "public": text, "minisign": mini}, func(w io.Writer) {
				columns(w, [][]string{{"key", string(bundle.IDOf(pub))}, {"public", text}, {"minisign", mini}})
			})
		},
	}
}

// writeNew never writes over a key.
func writeNew(name string, b []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func readKey(file string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(string(b), keyHead)
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if !ok || err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s is no key that `release keys new` made", file)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// readPublic takes a public key in base64, or a file with one.
func readPublic(text string) (ed25519.PublicKey, error) {
	if b, err := os.ReadFile(text); err == nil {
		text = strings.TrimSpace(string(b))
	}
	k, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(k) != ed25519.PublicKeySize {
		return nil, usagef("%q is no public key and no file with one", text)
	}
	return k, nil
}

func (a *app) printList(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	l, by, err := bundle.ParseKeyList(b)
	if err != nil {
		return err
	}
	return a.print(map[string]any{"counter": l.Counter, "created": l.Created, "keys": l.Keys, "revoked": l.Revoked, "signed_by": by}, func(w io.Writer) {
		rows := [][]string{{"list", fmt.Sprintf("%d, of %s", l.Counter, l.Created)}}
		for _, k := range l.Keys {
			rows = append(rows, []string{"signs", string(k.ID) + "  " + base64.StdEncoding.EncodeToString(k.Key)})
		}
		for _, id := range l.Revoked {
			rows = append(rows, []string{"revoked", string(id)})
		}
		for _, id := range by {
			rows = append(rows, []string{"signed by", string(id)})
		}
		columns(w, rows)
		if len(by) < bundle.Threshold {
			fmt.Fprintf(w, "%d signatures of roots are needed; the next holder runs `yunboxctl release keys sign-list %s --root KEY`\n", bundle.Threshold, file)
		}
	})
}

func (a *app) listKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list LIST", Short: "Show a list of release keys, and who signed it", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.printList(args[0]) },
	}
}

func (a *app) signListCommand() *cobra.Command {
	var root string
	var add, revoke []string
	c := &cobra.Command{
		Use: "sign-list LIST", Short: "Sign the list of release keys with a root key", Args: cobra.ExactArgs(1),
		Long: `sign-list signs LIST. With --add or --revoke it makes the next list first, whose number
is one higher, and which only this root has signed then. A second holder of a root key
signs the same list without these flags.

A key that is lost, or in wrong hands, is revoked: boxes take nothing that it signed once
they have seen the list, which comes with each update.`,
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := readKey(root)
			if err != nil {
				return err
			}
			file, err := os.ReadFile(args[0])
			l := bundle.KeyList{Product: bundle.Product, Revoked: []bundle.KeyID{}}
			switch {
			case errors.Is(err, fs.ErrNotExist) && len(add) > 0:
			case err != nil:
				return err
			default:
				if l, _, err = bundle.ParseKeyList(file); err != nil {
					return err
				}
			}
			if len(add)+len(revoke) > 0 {
				l.Counter, l.Created, file = l.Counter+1, time.Now().UTC().Format(time.RFC3339), nil
			}
			for _, text := range add {
				k, err := readPublic(text)
				if err != nil {
					return err
				}
				l.Keys = append(l.Keys, bundle.ReleaseKey{ID: bundle.IDOf(k), Key: k})
			}
			for _, id := range revoke {
				n := len(l.Keys)
				if l.Keys = slices.DeleteFunc(l.Keys, func(k bundle.ReleaseKey) bool { return string(k.ID) == id }); len(l.Keys) == n {
					return usagef("key %s is not in the list", id)
				}
				l.Revoked = append(l.Revoked, bundle.KeyID(id))
			}
			out, err := bundle.SignKeyList(l, file, key)
			if err != nil {
				return err
			}
			if err := replaceOutput(args[0], out); err != nil {
				return err
			}
			return a.printList(args[0])
		},
	}
	c.Flags().StringVar(&root, "root", "", "file with the root key")
	c.Flags().StringArrayVar(&add, "add", nil, "public release key, or a file with one, that may sign from now on (repeatable)")
	c.Flags().StringArrayVar(&revoke, "revoke", nil, "identifier of a release key that may not any more (repeatable)")
	_ = c.MarkFlagRequired("root")
	return c
}

func replaceOutput(name string, b []byte) error {
	if err := os.WriteFile(name+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

func (a *app) signReleaseCommand() *cobra.Command {
	var list, out, channel string
	var keyFiles []string
	var from, floor int64
	c := &cobra.Command{
		Use: "sign DIR|PACKAGE.deb", Short: "Make a signed update of a release", Args: cobra.ExactArgs(1),
		Long: `sign packs the programs of a release, from a folder with yunboxd, yunboxctl and
release.json or from a package, and signs them with a release key of LIST. It writes
yunbox_VERSION_ARCH.yup, and .minisig beside it for people who check by hand.

--floor N is for a release that closes a hole: a box that has it never goes back below
release N. --from N is for one that only boxes with release N or later can take on.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			keyList, err := os.ReadFile(list)
			if err != nil {
				return err
			}
			var keys []ed25519.PrivateKey
			for _, f := range keyFiles {
				k, err := readKey(f)
				if err != nil {
					return err
				}
				keys = append(keys, k)
			}
			files, err := releaseFiles(cmd, args[0])
			if err != nil {
				return err
			}
			var payload bytes.Buffer
			h, err := bundle.Make(&payload, bundle.Draft{Channel: channel, MinCounterFrom: from, SecurityFloor: floor, Created: time.Now()}, files)
			if err != nil {
				return err
			}
			head, err := bundle.Head(keyList, h, keys...)
			if err != nil {
				return err
			}
			file := append(head, payload.Bytes()...)
			name := filepath.Join(out, fmt.Sprintf("yunbox_%s_%s.yup", h.Version, h.Arch))
			if err := replaceOutput(name, file); err != nil {
				return err
			}
			mini, err := bundle.Minisign(bytes.NewReader(file), fmt.Sprintf("yunbox %s %s release %d", h.Version, h.Arch, h.Counter), keys[0])
			if err != nil {
				return err
			}
			if err := replaceOutput(name+".minisig", []byte(mini)); err != nil {
				return err
			}
			return a.print(map[string]any{"file": name, "header": h}, func(w io.Writer) { fmt.Fprintf(w, "%s: release %d, %d bytes\n", name, h.Counter, len(file)) })
		},
	}
	f := c.Flags()
	f.StringVar(&list, "list", "", "signed list of release keys")
	f.StringArrayVar(&keyFiles, "key", nil, "file with a release key (repeatable)")
	f.StringVar(&out, "out", ".", "folder for the update")
	f.StringVar(&channel, "channel", "stable", "whom it is for, a word")
	f.Int64Var(&from, "from", 0, "least release that can take it on")
	f.Int64Var(&floor, "floor", 0, "least release that a box with it may go back to")
	_ = c.MarkFlagRequired("list")
	_ = c.MarkFlagRequired("key")
	return c
}

// releaseFiles opens the files of a release in a folder or in a package.
func releaseFiles(cmd *cobra.Command, from string) (func(string) (io.ReadCloser, int64, error), error) {
	if !strings.HasSuffix(from, ".deb") {
		return func(name string) (io.ReadCloser, int64, error) {
			f, err := os.Open(filepath.Join(from, name))
			if err != nil {
				return nil, 0, err
			}
			info, err := f.Stat()
			if err != nil {
				return nil, 0, errors.Join(err, f.Close())
			}
			return f, info.Size(), nil
		}, nil
	}
	dpkg := exec.CommandContext(cmd.Context(), "dpkg-deb", "--fsys-tarfile", from)
	dpkg.Stderr = cmd.ErrOrStderr()
	out, err := dpkg.Output()
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", from, err)
	}
	found := map[string][]byte{}
	for t := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		if name := path.Clean(h.Name); path.Dir(name) == "usr/lib/yunbox/releases/packaged" && h.Typeflag == tar.TypeReg {
			if found[path.Base(name)], err = io.ReadAll(t); err != nil {
				return nil, err
			}
		}
	}
	return func(name string) (io.ReadCloser, int64, error) {
		b, ok := found[name]
		if !ok {
			return nil, 0, fmt.Errorf("%s has no %s", from, name)
		}
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
	}, nil
}

func (a *app) verifyReleaseCommand() *cobra.Command {
	var rootText, list string
	c := &cobra.Command{
		Use: "verify FILE", Short: "Verify an update as a box does", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			roots, err := bundle.Roots()
			if rootText != "" {
				roots, err = bundle.ParseRoots(rootText)
			}
			if err != nil {
				return err
			}
			trust := bundle.Trust{Roots: roots}
			if list != "" {
				if trust.List, err = os.ReadFile(list); err != nil {
					return err
				}
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			r, err := bundle.Open(f, trust)
			if err != nil {
				return err
			}
			if err := r.Unpack(func(_ string, _, _ int64, content io.Reader) error {
				_, err := io.Copy(io.Discard, content)
				return err
			}); err != nil {
				return err
			}
			return a.print(map[string]any{"header": r.Header, "key_list": r.KeyList.Counter, "signed_by": r.SignedBy}, func(w io.Writer) {
				h := r.Header
				columns(w, [][]string{
					{"release", fmt.Sprintf("%s (%d) for %s, %s", h.Version, h.Counter, h.Arch, h.Channel)}, {"made", h.Created},
					{"records", fmt.Sprintf("%d to %d", h.MinSchema, h.MaxSchema)}, {"from", fmt.Sprint(h.MinCounterFrom)}, {"floor", fmt.Sprint(h.SecurityFloor)},
					{"key list", fmt.Sprint(r.KeyList.Counter)}, {"signed by", fmt.Sprint(r.SignedBy)},
				})
				fmt.Fprintln(w, "whole, and signed by the maker")
			})
		},
	}
	c.Flags().StringVar(&rootText, "roots", "", "three public root keys in base64, with commas [those that this program was built with]")
	c.Flags().StringVar(&list, "list", "", "newest known list of release keys: one before it is refused")
	return c
}
