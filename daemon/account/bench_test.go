package account_test

import (
	"testing"

	"yunbox.local/daemon/account"
)

// What every request costs.
func BenchmarkAuthenticate(b *testing.B) {
	bx, s := benchBox(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bx.Authenticate(b.Context(), s.Token); err != nil {
			b.Fatal(err)
		}
	}
}

// What one sign-in costs: Argon2id, and one commit.
func BenchmarkLogin(b *testing.B) {
	bx, _ := benchBox(b)
	for b.Loop() {
		if _, err := bx.Login(b.Context(), account.LoginRequest{Username: "anna", Password: good, Remote: home}); err != nil {
			b.Fatal(err)
		}
	}
}
