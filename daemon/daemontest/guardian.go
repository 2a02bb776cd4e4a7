package daemontest

// AddChild adds a child that turns 14 in the month ("2031-05"), asks the person of that
// name to be its guardian, and signs the child in.
func (b *Box) AddChild(name, ofAge, guardian string) *Person {
	b.t.Helper()
	b.Local("POST", "/local/users", map[string]any{
		"username": name, "password": Password, "role": "child", "of_age": ofAge, "guardian": guardian,
	}, nil)
	return b.SignIn(name)
}

// BecomeGuardian has the person accept to be the child's guardian.
func (p *Person) BecomeGuardian(child *Person) {
	p.box.t.Helper()
	p.Call("PUT", "/v1/children/"+child.ID, map[string]any{"accepted": true}, nil)
}

// GrantFor records the person's consent to each purpose for a child.
func (p *Person) GrantFor(child *Person, purposes ...string) {
	p.box.t.Helper()
	var policy struct {
		Revision string `json:"revision"`
	}
	p.Call("GET", "/v1/policy", nil, &policy)
	for _, purpose := range purposes {
		p.Call("PUT", "/v1/children/"+child.ID+"/consents/"+purpose, map[string]any{"granted": true, "policy_revision": policy.Revision}, nil)
	}
}

// WithdrawFor withdraws a consent of a child.
func (p *Person) WithdrawFor(child *Person, purpose string) {
	p.box.t.Helper()
	p.Call("DELETE", "/v1/children/"+child.ID+"/consents/"+purpose, nil, nil)
}
