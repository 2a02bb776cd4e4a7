package daemon_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/guardian"
)

type child struct {
	ID, Username           string
	OfAge                  string `json:"of_age"`
	Grown, Guarded, Stands bool
	Guardians              []struct {
		Username string
		Stands   bool
	}
	Requests []struct {
		ID, Purpose string
		Answer      *string
	}
	Erasures []struct {
		Purpose string
		Due     time.Time
	}
	Deletions []struct {
		JWS string
	}
}

type guardianship struct {
	Children, Self []child
	Deletions      []struct{ JWS string }
}

func guardianshipOf(t *testing.T, p *daemontest.Person) (g guardianship) {
	t.Helper()
	ask(p, "GET", "/v1/guardianship", "").is(t, "guardianship of "+p.Name, 200, "").into(t, &g)
	return g
}

func self(t *testing.T, p *daemontest.Person) child {
	t.Helper()
	g := guardianshipOf(t, p)
	if len(g.Self) != 1 {
		t.Fatalf("%s is %d children", p.Name, len(g.Self))
	}
	return g.Self[0]
}

// news takes the kinds of what the person has not seen, and marks it as seen.
func news(t *testing.T, p *daemontest.Person) (kinds []string) {
	t.Helper()
	var list struct {
		Notices []struct{ ID, Kind, Name string }
	}
	ask(p, "GET", "/v1/me/notices", "").is(t, "news", 200, "").into(t, &list)
	for _, n := range list.Notices {
		kinds = append(kinds, n.Kind)
		ask(p, "DELETE", "/v1/me/notices?through="+n.ID, "").is(t, "seen", 204, "")
	}
	return kinds
}

func heard(t *testing.T, p *daemontest.Person, kinds ...string) {
	t.Helper()
	got := news(t, p)
	for _, k := range kinds {
		if !slices.Contains(got, k) {
			t.Errorf("%s heard %v, and not of %s", p.Name, got, k)
		}
	}
}

func stateOf(t *testing.T, p *daemontest.Person, path, purpose string) string {
	t.Helper()
	var list struct {
		Consents []struct{ Purpose, State string }
	}
	ask(p, "GET", path, "").is(t, path, 200, "").into(t, &list)
	for _, c := range list.Consents {
		if c.Purpose == purpose {
			return c.State
		}
	}
	t.Fatalf("%s is not in %s", purpose, path)
	return ""
}

const yes = `{"granted":true,"policy_revision":"1"}`

// A child, its guardians and the owner of the box, from the first refusal to the proof of
// the deletion.
func TestAChildAndItsGuardians(t *testing.T) { // R24
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind() // the owner, and nobody's guardian
	bob, eve := b.AddPerson("bob"), b.AddPerson("eve")

	// How a child is added: with a guardian, who is an adult, and a month.
	add := func(body string) reply { return ask(ada, "POST", "/v1/users", body) }
	who := `{"username":"kid","password":"` + daemontest.Password + `","role":"child"`
	add(who+`}`).is(t, "no guardian", 400, "invalid")
	add(who+`,"guardian":"bob"}`).is(t, "no month", 400, "invalid")
	add(who+`,"guardian":"bob","of_age":"2099-13"}`).is(t, "no month of a year", 400, "invalid")
	add(who+`,"guardian":"bob","of_age":"2020-01"}`).is(t, "14 already", 400, "invalid")
	add(who+`,"guardian":"bob","of_age":"2099-12"}`).is(t, "born in the future", 400, "invalid")
	add(who+`,"guardian":"nobody","of_age":"2035-12"}`).is(t, "a guardian who is not there", 400, "invalid")
	add(strings.Replace(who, "child", "member", 1)+`,"of_age":"2035-12"}`).is(t, "the age of an adult", 400, "invalid")
	add(who+`,"guardian":"bob","of_age":"2035-12"}`).is(t, "a child", 201, "")
	kid := b.SignIn("kid")
	add(strings.Replace(who, `"kid"`, `"sis"`, 1)+`,"guardian":"kid","of_age":"2036-12"}`).is(t, "a child as guardian", 400, "invalid")
	heard(t, bob, "guardian_asked")

	// Nothing by itself: neither the policy nor a purpose. Saying no is free.
	ask(kid, "PUT", "/v1/policy", `{"accepted":true,"revision":"1"}`).is(t, "the child accepts the policy", 403, "forbidden")
	ask(kid, "PUT", "/v1/consents/album_backup", yes).is(t, "the child agrees", 403, "forbidden")
	ask(kid, "DELETE", "/v1/consents/album_backup", "").is(t, "the child says no", 200, "")
	r := ask(kid, "PUT", "/v1/files/a.jpg?source=album", "a").is(t, "without a guardian", 403, "consent-required")
	if !strings.Contains(string(r.body), "/v1/guardianship/requests") || !strings.Contains(string(r.body), "name a guardian") {
		t.Errorf("it does not say whom to ask: %v", r)
	}
	ask(kid, "POST", "/v1/guardianship/requests", `{"purpose":"album_backup"}`).is(t, "nobody to ask", 409, "conflict")

	// An invitation opens nothing; accepting needs the one who was invited.
	kids := "/v1/children/" + kid.ID
	for who, p := range map[string]*daemontest.Person{"the invited": bob, "the owner": ada, "a stranger": eve, "the child": kid} {
		ask(p, "PUT", kids+"/consents/storage", yes).is(t, who+" decides", 404, "not-found")
		ask(p, "GET", kids+"/consents", "").is(t, who+" looks", 404, "not-found")
		ask(p, "GET", kids+"/receipts", "").is(t, who+" reads receipts", 404, "not-found")
		ask(p, "DELETE", kids+"/data/storage", "").is(t, who+" deletes", 404, "not-found")
		if p != bob {
			ask(p, "PUT", kids, `{"accepted":true}`).is(t, who+" accepts", 404, "not-found")
		}
	}
	ask(ada, "POST", kids+"/guardians", `{"username":"ada"}`).is(t, "the owner may name one while nobody stands for the child", 204, "")
	ask(ada, "DELETE", kids, "").is(t, "and declines", 204, "")
	bob.BecomeGuardian(kid)
	heard(t, kid, "guardian_new")
	ask(ada, "POST", kids+"/guardians", `{"username":"ada"}`).is(t, "the owner makes herself guardian", 403, "forbidden")
	ask(ada, "GET", kids+"/consents", "").is(t, "the owner looks", 404, "not-found")
	if list := ask(ada, "GET", "/v1/users/"+kid.ID+"/guardians", "").is(t, "who stands", 200, ""); !strings.Contains(string(list.body), `"bob"`) || strings.Contains(string(list.body), "requests") {
		t.Errorf("the owner sees %v", list)
	}

	// The child asks, the guardian answers. The policy comes first.
	request := func(purpose string) string {
		var q struct{ ID string }
		ask(kid, "POST", "/v1/guardianship/requests", `{"purpose":"`+purpose+`"}`).is(t, "a request", 201, "").into(t, &q)
		return q.ID
	}
	q := request("album_backup")
	if again := request("album_backup"); again != q {
		t.Error("asking twice makes two requests")
	}
	ask(kid, "POST", "/v1/guardianship/requests", `{"purpose":"mind_reading"}`).is(t, "for nothing", 404, "not-found")
	ask(bob, "POST", "/v1/guardianship/requests", `{"purpose":"album_backup"}`).is(t, "an adult asks", 409, "conflict")
	heard(t, bob, "ward_asks")
	answer := func(p *daemontest.Person, id, what string) reply {
		return ask(p, "PUT", "/v1/guardianship/requests/"+id, `{"answer":"`+what+`","policy_revision":"1"}`)
	}
	answer(eve, q, "yes").is(t, "a stranger answers", 404, "not-found")
	answer(kid, q, "yes").is(t, "the child answers", 404, "not-found")
	answer(bob, q, "yes").is(t, "before the policy", 409, "conflict")
	ask(bob, "PUT", kids+"/consents/storage", `{"granted":true,"policy_revision":"0"}`).is(t, "another policy", 409, "conflict")
	bob.GrantFor(kid, "storage")
	put := func() reply { return ask(kid, "PUT", "/v1/files/a.jpg?source=album", "a") }
	put().is(t, "another purpose", 403, "consent-required")
	var receipt json.RawMessage
	answer(bob, q, "yes").is(t, "yes", 200, "").into(t, &receipt)
	answer(bob, q, "yes").is(t, "yes again", 404, "not-found")
	got, err := consent.VerifyReceipt(boxKey(t, b), receipt)
	if err != nil || got.Principal.String() != kid.ID || got.Event.Actor.String() != bob.ID || got.Event.State != consent.Granted {
		t.Errorf("the receipt says %+v, %v", got, err)
	}
	var receipts struct{ Receipts []consent.Receipt }
	ask(bob, "GET", kids+"/receipts", "").is(t, "receipts", 200, "").into(t, &receipts)
	if n := len(receipts.Receipts); n != 3 { // and the child's own no
		t.Errorf("the guardian has %d receipts", n)
	}
	ask(kid, "GET", "/v1/consents/album_backup/receipts", "").is(t, "the child's", 200, "").into(t, &receipts)
	if n := len(receipts.Receipts); n != 2 {
		t.Errorf("the child has %d receipts of the purpose", n)
	}
	heard(t, kid, "ward_answer")
	if a := self(t, kid).Requests[0].Answer; a == nil || *a != "yes" {
		t.Errorf("the answer is %v", a)
	}
	put().is(t, "with a guardian's consent", 201, "")
	ask(bob, "GET", "/v1/items", "").is(t, "the guardian's files", 200, "")
	if r := ask(bob, "GET", "/v1/items?recursive=true", ""); strings.Contains(string(r.body), "a.jpg") {
		t.Error("a guardian sees the child's files")
	}

	// No, and no asking again and again.
	no := request("qq_backup")
	answer(bob, no, "no").is(t, "no", 200, "")
	ask(kid, "POST", "/v1/guardianship/requests", `{"purpose":"qq_backup"}`).is(t, "asked again at once", 409, "conflict")
	request("camera_transfer")
	back := request("wechat_backup")
	ask(eve, "DELETE", "/v1/guardianship/requests/"+back, "").is(t, "a stranger takes it back", 404, "not-found")
	ask(kid, "DELETE", "/v1/guardianship/requests/"+back, "").is(t, "taken back", 204, "")

	// Two guardians, each decides; what one agreed to goes with that one. Handing over.
	ask(bob, "POST", kids+"/guardians", `{"username":"kid"}`).is(t, "in a circle", 400, "invalid")
	ask(bob, "POST", kids+"/guardians", `{"username":"eve"}`).is(t, "a second one", 204, "")
	ask(bob, "POST", kids+"/guardians", `{"username":"ada"}`).is(t, "a third one", 409, "conflict")
	eve.BecomeGuardian(kid)
	heard(t, bob, "guardian_new")
	eve.GrantFor(kid, "camera_transfer")
	ask(bob, "DELETE", kids, "").is(t, "bob steps down", 204, "")
	heard(t, eve, "guardian_ends")
	if s := stateOf(t, eve, kids+"/consents", "album_backup"); s != "suspended" {
		t.Errorf("what bob agreed to is %s", s)
	}
	put().is(t, "on the word of a former guardian", 403, "consent-required")
	eve.GrantFor(kid, "storage", "album_backup")
	put().is(t, "on the new one's", 200, "")

	// The last one's account is switched off: suspended at once, and nothing deleted.
	news(t, ada)
	ask(ada, "PATCH", "/v1/users/"+eve.ID, `{"disabled":true}`).is(t, "off", 200, "")
	heard(t, ada, "guardian_gone")
	heard(t, kid, "guardian_gone")
	put().is(t, "without any", 403, "consent-required")
	b.Restart()
	put().is(t, "without any, after a restart", 403, "consent-required")
	b.Pass(60 * 24 * time.Hour)
	b.Local("POST", "/local/sweep", nil, nil)
	kid = b.SignIn("kid")
	ask(kid, "GET", "/v1/files/a.jpg", "").is(t, "what came in with consent", 200, "")
	ada = b.SignIn("ada")
	ask(ada, "PATCH", "/v1/users/"+eve.ID, `{"disabled":false}`).is(t, "on", 200, "")
	eve = b.SignIn("eve")
	put().is(t, "she is back", 200, "")

	// Withdrawn: what came in goes in 14 days, unless she agrees again or wants it now.
	eve.WithdrawFor(kid, "album_backup")
	heard(t, kid, "ward_erasure")
	if e := self(t, kid).Erasures; len(e) != 1 || e[0].Purpose != "album_backup" {
		t.Fatalf("to be deleted: %+v", e)
	}
	eve.GrantFor(kid, "album_backup")
	if e := self(t, kid).Erasures; len(e) != 0 {
		t.Errorf("to be deleted after all: %+v", e)
	}
	ask(kid, "PUT", "/v1/files/b.jpg?source=other", "b").is(t, "another file", 201, "")
	ask(eve, "DELETE", kids+"/data/album_backup", "").is(t, "while she agrees", 409, "conflict")
	ask(kid, "DELETE", "/v1/consents/album_backup", "").is(t, "the child says no", 200, "")
	heard(t, eve, "ward_says_no")
	b.Pass(13 * 24 * time.Hour)
	b.Local("POST", "/local/sweep", nil, nil)
	kid = b.SignIn("kid")
	ask(kid, "GET", "/v1/files/a.jpg", "").is(t, "before its time", 200, "")
	b.Pass(36 * time.Hour)
	b.Local("POST", "/local/sweep", nil, nil)
	ask(kid, "GET", "/v1/files/a.jpg", "").is(t, "after its time", 404, "not-found")
	ask(kid, "GET", "/v1/files/b.jpg", "").is(t, "of another purpose", 200, "")
	eve = b.SignIn("eve") // she proved who she is
	// A file with a note and an older version, one in the trash, one deleted for good, half
	// an upload, a part of a Nextcloud app's, an export that lists them.
	kid = b.SignIn("kid")
	for i, name := range []string{"Murmeltier/am See.jpg", "Murmeltier/am See.jpg", "Murmeltier-1.jpg", "Murmeltier-2.jpg"} {
		if r := ask(kid, "PUT", "/v1/files/"+strings.ReplaceAll(name, " ", "%20"), fmt.Sprint(i, " is seen by nobody")); r.status/100 != 2 {
			t.Fatal(r)
		}
	}
	ask(kid, "PROPPATCH", "/dav/Murmeltier/am%20See.jpg", `<propertyupdate xmlns="DAV:"><set><prop><note xmlns="urn:x">Murmeltier note</note></prop></set></propertyupdate>`).is(t, "note", 207, "")
	ask(kid, "DELETE", "/v1/files/Murmeltier-1.jpg", "").is(t, "trash", 204, "")
	purgeFile(t, kid, "Murmeltier-2.jpg")
	ask(kid, "POST", "/v1/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", "100", "Upload-Metadata", "path "+b64("Murmeltier.mp4")).is(t, "half an upload", 201, "")
	parts, to := "/remote.php/dav/uploads/kid/Murmeltier", []string{"Destination", b.URL + "/remote.php/dav/files/kid/Murmeltier.mov"}
	ask(kid, "MKCOL", parts, "", to...).is(t, "an upload in parts", 201, "")
	ask(kid, "PUT", parts+"/1", "a part is seen by nobody", to...).is(t, "a part", 201, "")
	prepareExport(t, kid, `{}`)
	eve.WithdrawFor(kid, "storage")
	ask(eve, "DELETE", kids+"/data/storage", "").is(t, "at once", 204, "")
	ask(eve, "DELETE", kids+"/data/wechat_backup", "").is(t, "nothing", 409, "conflict")
	b.Local("POST", "/local/sweep", nil, nil)
	ask(kid, "GET", "/v1/files/b.jpg", "").is(t, "at once", 404, "not-found")
	if left := holding(t, b.State, "Murmeltier", "is seen by nobody"); len(left) > 0 {
		t.Errorf("the receipt is there, and so is\n%s", strings.Join(left, "\n"))
	}
	list := self(t, kid).Deletions
	if len(list) != 2 || len(guardianshipOf(t, eve).Children[0].Deletions) != 2 {
		t.Fatalf("%d receipts", len(list))
	}
	payload, err := signed(boxKey(t, b), guardian.DeletionType, list[0].JWS)
	var d guardian.Deletion
	if err != nil || json.Unmarshal(payload, &d) != nil || !d.All || d.Files != 4 || d.Bytes < 50 || len(d.Left) != 2 || d.Principal.String() != kid.ID || d.Requester.String() != eve.ID || d.Record == "" {
		t.Errorf("the receipt says %+v, %v", d, err)
	}
	forged := strings.Replace(list[0].JWS, ".", ".A", 1)
	if _, err := signed(boxKey(t, b), guardian.DeletionType, forged); err == nil {
		t.Error("a receipt that was changed is good")
	}
	// And it can begin again, with the same photo.
	eve.GrantFor(kid, "storage", "album_backup")
	put().is(t, "begun again", 201, "")
	var report struct{ Bad *struct{} }
	b.Local("GET", "/local/audit/verify", nil, &report)
	if report.Bad != nil {
		t.Error("the records do not hold")
	}
}

// signed is what stands in a JWS of that typ, if the key signed it.
func signed(key any, typ, jws string) ([]byte, error) {
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		return nil, errors.New("not three parts")
	}
	var head struct{ Alg, Typ string }
	raw, err := base64.RawURLEncoding.DecodeString(parts[0])
	sig, serr := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err = errors.Join(err, serr, json.Unmarshal(raw, &head)); err != nil || head.Alg != "ES256" || head.Typ != typ || len(sig) != 64 ||
		!ecdsa.Verify(key.(*ecdsa.PublicKey), sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return nil, fmt.Errorf("the signature is wrong: %+v, %w", head, err)
	}
	return base64.RawURLEncoding.DecodeString(parts[1])
}

func boxKey(t *testing.T, b *daemontest.Box) any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(b.State, "keys", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert.PublicKey
}

// A child becomes 14: by time that passed, not by a clock that jumps.
func TestAChildComesOfAge(t *testing.T) { // R24
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	// Whoever says to be younger than 14 accepts nothing; of the others it is kept that they said so.
	ask(ada, "PUT", "/v1/policy", `{"accepted":true,"revision":"1","fourteen":false}`).is(t, "younger", 403, "forbidden")
	if s := stateOf(t, ada, "/v1/consents", "storage"); s != "never" {
		t.Errorf("the policy is %s", s)
	}
	for range 2 {
		ask(ada, "PUT", "/v1/policy", `{"accepted":true,"revision":"1","fourteen":true}`).is(t, "old enough", 200, "")
	}
	var tail struct{ Entries []struct{ Action string } }
	b.Local("GET", "/local/audit/tail?n=50", nil, &tail)
	if s := fmt.Sprint(tail.Entries); strings.Count(s, "age.declare") != 1 {
		t.Errorf("what was said is not kept once: %s", s)
	}
	month := time.Now().UTC().AddDate(0, 2, 0)
	kid := b.AddChild("kid", month.Format("2006-01"), "ada")
	ada.BecomeGuardian(kid)
	ada.GrantFor(kid, "storage", "album_backup")
	put(t, kid, "a.jpg", "a")
	ada.WithdrawFor(kid, "album_backup")
	ada.GrantFor(kid, "album_backup")

	b.Leap(decade)
	rightTime(b)
	b.Local("POST", "/local/sweep", nil, nil)
	if w := self(t, kid); w.Grown || !w.Guarded {
		t.Errorf("a clock that jumped made it grown: %+v", w)
	}
	put(t, kid, "b.jpg", "b")
	b.Leap(-decade)
	b.Local("POST", "/local/sweep", nil, nil)
	put(t, kid, "c.jpg", "c")

	b.Pass(100 * 24 * time.Hour) // over its month's end
	b.Local("POST", "/local/sweep", nil, nil)
	ada, kid = b.SignIn("ada"), b.SignIn("kid")
	heard(t, kid, "of_age")
	heard(t, ada, "ward_of_age")
	if w := self(t, kid); !w.Grown || len(w.Guardians) != 0 {
		t.Errorf("it is not grown: %+v", w)
	}
	if g := guardianshipOf(t, ada); len(g.Children) != 0 {
		t.Errorf("its guardian still sees %+v", g)
	}
	kids := "/v1/children/" + kid.ID
	ask(ada, "GET", kids+"/consents", "").is(t, "a former guardian looks", 404, "not-found")
	ask(ada, "DELETE", kids+"/consents/album_backup", "").is(t, "a former guardian decides", 404, "not-found")
	ask(ada, "POST", kids+"/guardians", `{"username":"ada"}`).is(t, "a new guardian", 409, "conflict")
	if s := stateOf(t, kid, "/v1/consents", "album_backup"); s != "suspended" {
		t.Errorf("what its guardian agreed to is %s", s)
	}
	r := ask(kid, "PUT", "/v1/files/d.jpg?source=album", "d").is(t, "on a former guardian's word", 403, "consent-required")
	if strings.Contains(string(r.body), "uardian") {
		t.Errorf("it is sent to a guardian that it has no more: %v", r)
	}
	ask(kid, "GET", "/v1/files/a.jpg", "").is(t, "its files", 200, "")
	ask(kid, "PUT", "/v1/consents/album_backup", yes).is(t, "it decides itself", 200, "")
	role := func() string {
		var me struct{ Role string }
		ask(kid, "GET", "/v1/me", "").is(t, "me", 200, "").into(t, &me)
		return me.Role
	}
	if got := role(); got != "child" {
		t.Errorf("before it accepted the policy it is a %s", got)
	}
	ask(kid, "PUT", "/v1/policy", `{"accepted":true,"revision":"1","fourteen":true}`).is(t, "it accepts the policy", 200, "")
	if got := role(); got != "member" {
		t.Errorf("after that it is a %s", got)
	}
	if g := guardianshipOf(t, kid); len(g.Self) != 0 {
		t.Errorf("a member is still %+v", g.Self)
	}
	put(t, kid, "d.jpg", "d")
	b.Restart()
	put(t, kid, "e.jpg", "e")
}

// A new revision of the policy: the guardian accepts it for the child, and for nobody
// before having accepted it. A child that declines it is heard.
func TestAChildUnderAnotherPolicy(t *testing.T) { // R23 R24
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	kid := b.AddChild("kid", time.Now().AddDate(5, 0, 0).Format("2006-01"), "ada")
	ada.BecomeGuardian(kid)
	ada.Grant("storage")
	ada.GrantFor(kid, "storage", "album_backup")
	put(t, kid, "a.jpg", "a")
	b.Update(daemontest.Revised(t, 1))
	kids := "/v1/children/" + kid.ID
	r := ask(kid, "PUT", "/v1/files/b.jpg?source=album", "b").is(t, "under the old policy", 403, "consent-required")
	if !strings.Contains(string(r.body), "uardian") {
		t.Errorf("the child is not sent to its guardian: %v", r)
	}
	ask(kid, "PUT", "/v1/policy", `{"accepted":true,"revision":"2"}`).is(t, "the child accepts it", 403, "forbidden")
	ask(kid, "POST", "/v1/guardianship/requests", `{"purpose":"storage"}`).is(t, "the child asks", 201, "")
	again := `{"granted":true,"policy_revision":"2"}`
	ask(ada, "PUT", kids+"/consents/storage", again).is(t, "before accepting it herself", 403, "consent-required")
	ask(ada, "PUT", "/v1/policy", `{"accepted":true,"revision":"2"}`).is(t, "ada accepts it", 200, "")
	ask(ada, "PUT", kids+"/consents/storage", again).is(t, "and then for the child", 200, "")
	put(t, kid, "b.jpg", "b")

	ask(kid, "PUT", "/v1/policy", `{"accepted":false,"revision":"2"}`).is(t, "the child declines it", 200, "")
	ask(kid, "PUT", "/v1/files/c.jpg?source=album", "c").is(t, "after that", 403, "consent-required")
	if e := self(t, kid).Erasures; len(e) != 1 || e[0].Purpose != "storage" {
		t.Errorf("to be deleted: %+v", e)
	}
	ask(ada, "DELETE", kids+"/consents/policy", "").is(t, "a guardian declines it as a whole", 404, "not-found")
	ask(ada, "PUT", kids+"/consents/album_backup", again).is(t, "a purpose before the policy", 409, "conflict")
	ada = b.SignIn("ada")
	ask(ada, "DELETE", kids+"/data/storage", "").is(t, "deleted at once", 204, "")
	b.Local("POST", "/local/sweep", nil, nil)
	list := self(t, kid).Deletions
	var d guardian.Deletion
	if len(list) != 1 {
		t.Fatalf("%d receipts", len(list))
	}
	if payload, err := signed(boxKey(t, b), guardian.DeletionType, list[0].JWS); err != nil || json.Unmarshal(payload, &d) != nil || d.Files != 2 || d.Record == "" {
		t.Errorf("the receipt says %+v, %v", d, err)
	}
	ask(ada, "PUT", kids+"/consents/storage", again).is(t, "accepted again", 200, "")
	ask(kid, "PUT", "/v1/files/c.jpg?source=album", "c").is(t, "what was declined stays off", 403, "consent-required")
	ask(ada, "PUT", kids+"/consents/album_backup", again).is(t, "and the purpose", 200, "")
	put(t, kid, "c.jpg", "c")
}
