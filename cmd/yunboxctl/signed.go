package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/signed"
)

// A boxKey is what a signature is held against: the fingerprint of a box's key, and the
// key itself where it is known. The first versions of consent receipts name theirs by the
// fingerprint only.
type boxKey struct {
	pin  pin
	spki []byte // nil: what was signed must name it
}

// keyOf reads --key: a fingerprint as on the label, or a file with the box's ca.crt.
func keyOf(key string) (boxKey, error) {
	data, err := os.ReadFile(key)
	switch {
	case errors.Is(err, os.ErrNotExist):
		data = []byte(key)
	case err != nil:
		return boxKey{}, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		p, err := parsePin(string(data))
		return boxKey{pin: p}, err
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return boxKey{}, usagef("that file holds no certificate of a box")
	}
	return boxKey{sha256.Sum256(cert.RawSubjectPublicKeyInfo), cert.RawSubjectPublicKeyInfo}, nil
}

// Kinds of documents that a box signs, by typ.
var documents = map[string]struct {
	schema string
	write  func(w io.Writer, payload []byte) error // what it says, for people
}{
	"yunbox-receipt+jws":         {"yunbox-receipt/1", writeConsent},
	"yunbox-deletion+jws":        {"yunbox-deletion/1", writeChildDeletion},
	deletionTyp:                  {"yunbox-deletion-receipt/1", writeDeletion},
	"yunbox-storage-receipt+jws": {"yunbox-storage-receipt/1", writeStorage},
	"yunbox-record+jws":          {"yunbox-record/1", writeStatement},
	exportTyp:                    {exportSchema, writeExport},
}

// A signedDocument is one that verified.
type signedDocument struct {
	Typ     string          `json:"typ"`
	Payload json.RawMessage `json:"signed"`
}

// readDocuments returns what stands in a file, unchecked: documents as the box gave them,
// their signatures alone one a line, or answers of the box with lists of them.
func readDocuments(data []byte) (list []json.RawMessage, err error) {
	if data = bytes.TrimSpace(data); len(data) == 0 {
		return nil, notGenuine("There is nothing in the file.")
	}
	if data[0] != '{' {
		for line := range strings.FieldsSeq(string(data)) {
			b, err := json.Marshal(map[string]string{"jws": line})
			if err != nil {
				return nil, err
			}
			list = append(list, b)
		}
		return list, nil
	}
	for d := json.NewDecoder(bytes.NewReader(data)); d.More(); {
		var one json.RawMessage
		if err := d.Decode(&one); err != nil {
			return nil, notGenuine("It is no signed document.")
		}
		var of struct {
			Receipts, Deletions []json.RawMessage
			Children, Self      []struct{ Deletions []json.RawMessage }
		}
		if err := json.Unmarshal(one, &of); err != nil {
			return nil, notGenuine("It is no signed document.")
		}
		all := append(of.Receipts, of.Deletions...)
		for _, c := range append(of.Children, of.Self...) {
			all = append(all, c.Deletions...)
		}
		if len(all) == 0 {
			all = append(all, one)
		}
		list = append(list, all...)
	}
	return list, nil
}

// openDocument checks a document: whatever stands beside its signature must be what was
// signed. types are those that are taken; none: all.
func openDocument(data []byte, known boxKey, types ...string) (d signedDocument, err error) {
	said, jws, err := signed.Split(data)
	if err != nil {
		return d, notGenuine("It is no signed document: " + err.Error() + ".")
	}
	head, _, _ := strings.Cut(jws, ".")
	var header struct{ Typ string }
	if b, err := base64.RawURLEncoding.DecodeString(head); err != nil || json.Unmarshal(b, &header) != nil {
		return d, notGenuine("It has no signature.")
	}
	kind, ok := documents[header.Typ]
	if !ok || len(types) > 0 && !slices.Contains(types, header.Typ) {
		return d, notGenuine(fmt.Sprintf("It is a document of another kind: %q.", header.Typ))
	}
	payload, err := openSignedBy(jws, header.Typ, known)
	if err != nil {
		return d, err
	}
	was, err := signed.Object(payload)
	if err != nil || was["schema_version"] != kind.schema {
		return d, notGenuine("It has a form that this version cannot read.")
	}
	if len(said) > 0 && !signed.Says(said, was) {
		return d, notGenuine("It does not say what was signed.")
	}
	return signedDocument{header.Typ, payload}, nil
}

// signedFields are those that documents of several kinds share.
type signedFields struct {
	Principal string    `json:"pii_principal_id"`
	Title     heldWords `json:"title"`
	Time      time.Time `json:"time"`
	Decided   time.Time `json:"decided"`
	Deleted   time.Time `json:"deleted"`
	Files     int64     `json:"files"`
	Bytes     int64     `json:"bytes"`
	Record    string    `json:"record_id"`
	Left      heldWords `json:"left"`
	Notice    struct {
		Revision string `json:"revision"`
	} `json:"privacy_notice"`
	Purpose json.RawMessage `json:"purpose"` // of a consent an object, else its id
	Event   struct {
		State string    `json:"state"`
		Time  time.Time `json:"time"`
	} `json:"event"`
	Items   []json.RawMessage `json:"items"`
	Audit   standing          `json:"audit"`
	Consent standing          `json:"consent"`
}

func writeConsent(w io.Writer, payload []byte) error {
	var f signedFields
	var p struct {
		ID    string    `json:"id"`
		Title heldWords `json:"title"`
	}
	if err := errors.Join(json.Unmarshal(payload, &f), json.Unmarshal(f.Purpose, &p)); err != nil {
		return notGenuine("It has a form that this version cannot read.")
	}
	_, err := fmt.Fprintf(w, "consent: person %s %s %q (%s) on %s, under policy %s\nentry of the record: %s\n",
		f.Principal, f.Event.State, p.Title.text(), p.ID, f.Event.Time.Local().Format(time.DateTime), f.Notice.Revision, f.Record)
	return err
}

func writeChildDeletion(w io.Writer, payload []byte) error {
	var f signedFields
	if err := json.Unmarshal(payload, &f); err != nil {
		return notGenuine("It has a form that this version cannot read.")
	}
	_, err := fmt.Fprintf(w, "deleted of the child %s: %s, %s, %s, on %s; the consent had ended on %s\nlater: %s\n",
		f.Principal, f.Title.text(), plural(f.Files, "file", "files"), problem.Bytes(f.Bytes), f.Deleted.Local().Format(time.DateTime), f.Decided.Local().Format(time.DateOnly), f.Left.text())
	return err
}

func writeStorage(w io.Writer, payload []byte) error {
	var f signedFields
	if err := json.Unmarshal(payload, &f); err != nil {
		return notGenuine("It has a form that this version cannot read.")
	}
	_, err := fmt.Fprintf(w, "stored on %s: %s; yunboxctl verify DIR --receipts holds files against it\n", f.Time.Local().Format(time.DateTime), plural(int64(len(f.Items)), "content", "contents"))
	return err
}

func writeStatement(w io.Writer, payload []byte) error {
	var f signedFields
	if err := json.Unmarshal(payload, &f); err != nil {
		return notGenuine("It has a form that this version cannot read.")
	}
	_, err := fmt.Fprintf(w, "the records stood on %s at audit:%d:%s consent:%d:%s\n", f.Time.Local().Format(time.DateTime), f.Audit.Last.Seq, f.Audit.Last.Hash, f.Consent.Last.Seq, f.Consent.Last.Hash)
	return err
}

func writeExport(w io.Writer, _ []byte) error {
	_, err := fmt.Fprintln(w, "an export: yunboxctl export verify checks what is in its archive against it")
	return err
}

func (a *app) receiptVerifyCommand() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use: "verify FILE", Short: "Check whatever a box signed, without the box", Args: cobra.ExactArgs(1),
		Long: `verify checks signed documents against the key of the box that gave them: receipts of
consents, of deletions (an account's, a child's), of stored files, statements about the
records, and the signature of an export. FILE has one as the page or this program saved
it, its signature alone, or many of them. --key is the fingerprint on the box's label, or
a file with its ca.crt. Nothing is asked of the network.

Exit code 1: at least one is not genuine; nothing is printed of any.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if key == "" {
				return usagef("whose receipt? --key FINGERPRINT, from the box's label, or a file with its ca.crt")
			}
			known, err := keyOf(key)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			list, err := readDocuments(data)
			if err != nil {
				return err
			}
			var all []signedDocument
			for _, one := range list {
				d, err := openDocument(one, known)
				if err != nil {
					return err
				}
				all = append(all, d)
			}
			return a.print(map[string]any{"genuine": all}, func(w io.Writer) {
				fmt.Fprintf(w, "genuine: signed by the box with the key %s\n", known.pin)
				for _, d := range all {
					if err = errors.Join(err, documents[d.Typ].write(w, d.Payload)); err != nil {
						a.warn(err.Error())
					}
				}
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "fingerprint of the box's key, or a file with its ca.crt")
	return c
}
