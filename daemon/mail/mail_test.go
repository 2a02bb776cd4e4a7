package mail_test

import (
	"errors"
	"mime"
	"os"
	"strings"
	"testing"

	"yunbox.local/daemon/mail"
	"yunbox.local/daemon/mail/mailtest"
)

func mailer(t *testing.T, s *mailtest.Server, change func(*mail.Options)) *mail.Mailer {
	t.Helper()
	opt := mail.Options{Server: s.Addr, From: "Ada's box <box@home.example>", User: mailtest.User, Roots: s.Roots,
		Password: func() (string, error) { return mailtest.Password, nil }}
	if change != nil {
		change(&opt)
	}
	m, err := mail.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// R37: an e-mail arrives at a real server, over TLS in both of its ways, in any script.
func TestAnEmailArrives(t *testing.T) {
	for name, implicit := range map[string]bool{"STARTTLS": false, "TLS from the first byte": true} {
		t.Run(name, func(t *testing.T) {
			s := mailtest.Start(t, implicit, false)
			m := mailer(t, s, func(o *mail.Options) { o.Implicit = implicit })
			if err := m.Send(t.Context(), "bob@mail.example", "A notice / 通知", "First line\n.\n第二行\n"); err != nil {
				t.Fatal(err)
			}
			got := s.Messages()
			if len(got) != 1 || got[0].From != "box@home.example" || got[0].To != "bob@mail.example" {
				t.Fatalf("%+v", got)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(got[0].Header.Get("Subject"))
			if err != nil || subject != "A notice / 通知" {
				t.Errorf("subject %q, %v", subject, err)
			}
			// It says nothing about the computer that it comes from.
			host, err := os.Hostname()
			if err != nil {
				t.Fatal(err)
			}
			if len(host) > 3 && strings.Contains(got[0].Raw+got[0].Helo, host) || got[0].Header.Get("User-Agent")+got[0].Header.Get("X-Mailer") != "" {
				t.Errorf("HELO %s\n%s", got[0].Helo, got[0].Raw)
			}
			if got[0].Header.Get("Auto-Submitted") != "auto-generated" || !strings.HasSuffix(got[0].Header.Get("Message-Id"), "@home.example>") {
				t.Errorf("%v", got[0].Header)
			}
		})
	}
}

// Nothing is said, least of all a password, to a server without TLS or with a
// certificate that is not trusted.
func TestNoTLSNoEmail(t *testing.T) { // R31
	plain := mailtest.Start(t, false, true)
	if err := mailer(t, plain, nil).Send(t.Context(), "bob@mail.example", "x", "y"); err == nil || mail.Final(err) {
		t.Errorf("to a server without TLS: %v", err)
	}
	s := mailtest.Start(t, false, false)
	err := mailer(t, s, func(o *mail.Options) { o.Roots = plain.Roots }).Send(t.Context(), "bob@mail.example", "x", "y")
	if err == nil || mail.Final(err) {
		t.Errorf("to a stranger: %v", err)
	}
	wrong := mailer(t, s, func(o *mail.Options) { o.Password = func() (string, error) { return "wrong", nil } })
	if err := wrong.Send(t.Context(), "bob@mail.example", "x", "y"); err == nil || mail.Final(err) || strings.Contains(err.Error(), "bob") {
		t.Errorf("with a wrong password: %v", err)
	}
	if n := len(plain.Messages()) + len(s.Messages()); n != 0 {
		t.Errorf("%d e-mails arrived", n)
	}
}

// Neither an address nor a subject makes headers or recipients of its own.
func TestHeadersCannotBeInjected(t *testing.T) {
	s := mailtest.Start(t, false, false)
	m := mailer(t, s, nil)
	for _, to := range []string{
		"bob@mail.example\r\nBcc: eve@mail.example", "bob@mail.example\nX: y", "bob@mail.example, eve@mail.example", "<bob@mail.example>\x00", "",
		"Bob <bob@mail.example>", "bob@mail.example>\r\nRCPT TO:<eve@mail.example", "bob", "bob@mail.example\u2028X: y",
	} {
		if err := m.Send(t.Context(), to, "x", "y"); !mail.Final(err) || strings.Contains(err.Error(), "eve") {
			t.Errorf("to %q: %v", to, err)
		}
	}
	for _, subject := range []string{"x\r\nBcc: eve@mail.example", "x\ny", "x\x00", "x\u2029y"} {
		if err := m.Send(t.Context(), "bob@mail.example", subject, "y"); !mail.Final(err) {
			t.Errorf("subject %q: %v", subject, err)
		}
	}
	if err := m.Send(t.Context(), "bob@mail.example", "x", "a\r\n.\r\nRCPT TO:<eve@mail.example>\r\nBcc: eve@mail.example\r\n"); err != nil {
		t.Fatal(err)
	}
	got := s.Messages()
	if len(got) != 1 || got[0].To != "bob@mail.example" || got[0].Header.Get("Bcc") != "" || !strings.Contains(got[0].Raw, "\r\n.\r\nRCPT TO") {
		t.Errorf("%+v", got)
	}
	if _, err := mail.New(mail.Options{Server: "mail.example:25", From: "box@home.example\r\nBcc: eve@mail.example"}); err == nil {
		t.Error("a sender with two lines was taken")
	}
}

// A refusal for good is told from one that may pass, and what the server says of the
// address is not repeated.
func TestRefusals(t *testing.T) {
	s := mailtest.Start(t, false, false)
	m := mailer(t, s, nil)
	for code, final := range map[int]bool{550: true, 553: true, 450: false, 421: false} {
		s.Refuse(mailtest.Answer(code))
		if err := m.Send(t.Context(), "bob@mail.example", "x", "y"); err == nil || mail.Final(err) != final || strings.Contains(err.Error(), "bob") {
			t.Errorf("%d: final %v, %v", code, mail.Final(err), err)
		}
	}
	none, err := mail.New(mail.Options{})
	if err != nil || none.Server() != "" {
		t.Fatal(err)
	}
	if err := none.Send(t.Context(), "bob@mail.example", "x", "y"); !mail.Final(err) || errors.Is(err, nil) {
		t.Errorf("without a server: %v", err)
	}
}
