package spake2plus

// The box's own use of the protocol: a person types serial number and verification code
// into a client, which thereby knows that the TLS key it sees is the box's.

// iterations of PBKDF2. The record is in the memory of a box that has the code beside it,
// and both are gone when it is bound; they need not stand against years of guessing, and
// a phone does this in a tenth of a second.
const iterations = 100_000

// The identities of the two sides and the label of the protocol.
const (
	boxLabel  = "yunbox bind 1"
	boxProver = "yunbox owner"
	// Method is what the context says of how the code came to the client.
	Method = "code"
)

// A Binding is what the two sides of a binding by code must have seen alike.
type Binding struct {
	Key      [32]byte // SHA-256 of the public key (SPKI) of the authority in the chain that TLS showed
	ID       string   // the box's id: base32 of the first 80 bits of Key
	Serial   string   // in the form of the label
	Username string   // of the person who becomes the owner, as sent
}

// Session returns what goes into the run, each part with its length: nobody can pass on
// the messages of one connection over another, for a box with another key, or in somebody
// else's name.
func (b Binding) Session() Session {
	var context []byte
	for _, part := range []string{boxLabel, string(b.Key[:]), b.ID, b.Serial, b.Username, Method} {
		context = appendPart(context, []byte(part))
	}
	return Session{Context: context, Prover: boxProver, Verifier: b.Serial}
}

// Secret derives what the code of the label gives, 8 digits without spaces.
func (b Binding) Secret(code string) (Secret, error) {
	return Derive([]byte(code), b.Session(), []byte(boxLabel), iterations)
}
