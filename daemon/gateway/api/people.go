package api

import (
	"context"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/guardian"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

func (a *API) registerPeople() {
	register(a, route{
		Method: "GET", Path: "/v1/devices", ID: "list-devices", Tag: "account",
		Summary: "The asker's devices",
	}, httpd.SignedIn, a.devices)
	register(a, route{
		Method: "POST", Path: "/v1/devices", ID: "add-device", Tag: "account", Status: 201,
		Summary: "Add a device",
	}, httpd.SignedIn, a.addDevice)
	register(a, route{
		Method: "PATCH", Path: "/v1/devices/{id}", ID: "rename-device", Tag: "account",
		Summary: "Give a device another name",
	}, httpd.SignedIn, a.renameDevice)
	register(a, route{
		Method: "DELETE", Path: "/v1/devices/{id}", ID: "remove-device", Tag: "account",
		Summary:     "Remove a device",
		Description: "Its sessions and app tokens end at once. What it has uploaded stays.",
	}, httpd.SignedIn, a.removeDevice)
	register(a, route{
		Method: "GET", Path: "/v1/devices/{id}/ledger", ID: "list-offers", Tag: "account",
		Summary: "What a device offered and what became of it, newest first",
		Description: "Refusals before the body are in it, too. Of what was refused for want of a consent it says only which purpose that was, " +
			"once an hour, as `reason`, with an empty `path`: the name alone would be data that the box may not have.",
	}, httpd.SignedIn, a.offers)
	register(a, route{
		Method: "GET", Path: "/v1/users", ID: "list-users", Tag: "account",
		Summary: "Who has an account; for admins",
	}, httpd.AdminOnly, func(ctx context.Context, _ *struct{}) (*usersAnswer, error) {
		list, err := a.userList(ctx)
		return &usersAnswer{Body: list}, err
	})
	register(a, route{
		Method: "POST", Path: "/v1/users", ID: "create-user", Tag: "account", Status: 201,
		Summary: "Add a person; for admins",
	}, httpd.AdminOnly, func(ctx context.Context, in *createUserInput) (*userAnswer, error) {
		u, err := a.createUser(ctx, account.As(principal(ctx), "http"), in.Body)
		return &userAnswer{Body: u}, err
	})
	register(a, route{
		Method: "PATCH", Path: "/v1/users/{id}", ID: "change-user", Tag: "account",
		Summary: "Switch a person off or on again, limit what they may keep, or reset a second factor that they lost; for admins",
	}, httpd.AdminOnly, a.changeUser)
}

// DeviceEntry is one of a person's devices.
type DeviceEntry struct {
	ID       ident.DeviceID `json:"id"`
	Name     string         `json:"name"`
	Kind     string         `json:"kind" enum:"phone,tablet,computer,camera,browser,other"`
	Created  moment         `json:"created"`
	LastSeen moment         `json:"last_seen" doc:"To within an hour"`

	// DeviceAbout is what it said about itself under the consent to device_info.
	DeviceAbout
}

func deviceEntry(d account.Device) DeviceEntry {
	return DeviceEntry{ID: d.ID, Name: d.Name, Kind: d.Kind, Created: moment(d.Created), LastSeen: moment(d.LastSeen)}
}

type devicesAnswer struct {
	Body struct {
		Devices []DeviceEntry `json:"devices"`
	} `nameHint:"Devices"`
}

func (a *API) devices(ctx context.Context, _ *struct{}) (*devicesAnswer, error) {
	list, err := a.accounts.Devices(ctx, principal(ctx).User)
	if err != nil {
		return nil, err
	}
	abouts, err := a.accounts.Abouts(ctx, principal(ctx).User)
	if err != nil {
		return nil, err
	}
	out := &devicesAnswer{}
	out.Body.Devices = make([]DeviceEntry, 0, len(list))
	for _, d := range list {
		entry := deviceEntry(d)
		entry.DeviceAbout = DeviceAbout(abouts[d.ID])
		out.Body.Devices = append(out.Body.Devices, entry)
	}
	return out, nil
}

type deviceAnswer struct {
	Body DeviceEntry
}

type addDeviceInput struct {
	Body struct {
		Name string `json:"name" maxLength:"256" example:"Anna's phone"`
		Kind string `json:"kind,omitempty" enum:"phone,tablet,computer,camera,browser,other"`
	} `nameHint:"NewDevice"`
}

func (a *API) addDevice(ctx context.Context, in *addDeviceInput) (*deviceAnswer, error) {
	d, err := a.accounts.AddDevice(ctx, principal(ctx), account.DeviceInfo{Name: in.Body.Name, Kind: in.Body.Kind})
	if err != nil {
		return nil, err
	}
	return &deviceAnswer{Body: deviceEntry(d)}, nil
}

// OneDevice is embedded by the input of operations on a device.
type OneDevice struct {
	ID idParam[ident.DeviceID] `path:"id"`
}

type renameDeviceInput struct {
	OneDevice
	Body struct {
		Name string `json:"name" maxLength:"256"`
	} `nameHint:"DeviceName"`
}

func (a *API) renameDevice(ctx context.Context, in *renameDeviceInput) (*deviceAnswer, error) {
	d, err := a.accounts.RenameDevice(ctx, principal(ctx), in.ID.ID, in.Body.Name)
	if err != nil {
		return nil, err
	}
	return &deviceAnswer{Body: deviceEntry(d)}, nil
}

func (a *API) removeDevice(ctx context.Context, in *OneDevice) (*struct{}, error) {
	return nil, a.accounts.RemoveDevice(ctx, principal(ctx), in.ID.ID)
}

// ownDevice refuses a device that is not one of the asker's. Zero is no device.
func (a *API) ownDevice(ctx context.Context, d ident.DeviceID) error {
	if d == 0 {
		return nil
	}
	_, err := a.accounts.Device(ctx, principal(ctx).User, d)
	return err
}

type offersInput struct {
	OneDevice
	Outcome string `query:"outcome" enum:"stored,known,declined,failed" doc:"Only offers with this outcome"`
	Cursor  string `query:"cursor" maxLength:"4096"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

type offersAnswer struct {
	Body struct {
		Entries []OfferEntry `json:"entries"`
		Next    *string      `json:"next" doc:"cursor of the next page; null: this is the last"`
	} `nameHint:"OfferPage"`
}

// OfferEntry is something that a device offered.
type OfferEntry struct {
	Time    moment        `json:"time"`
	Path    string        `json:"path"`
	SHA256  *storage.Ref  `json:"sha256" nullable:"true" doc:"null: never became known"`
	Size    *int64        `json:"size" minimum:"0" doc:"null: not known"`
	Outcome string        `json:"outcome" enum:"stored,known,declined,failed"`
	Kind    *string       `json:"kind" doc:"Why it was declined or failed, for programs: the end of a problem's type, such as deleted, quota, full, consent-required, mismatch"`
	Reason  string        `json:"reason" doc:"The same for people"`
	Item    *ident.ItemID `json:"item" doc:"What it became"`
}

func (a *API) offers(ctx context.Context, in *offersInput) (*offersAnswer, error) {
	if err := a.ownDevice(ctx, in.ID.ID); err != nil {
		return nil, err
	}
	list, next, err := a.catalog.Ledger(ctx, principal(ctx).User, in.ID.ID, in.Outcome, in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &offersAnswer{}
	out.Body.Entries = make([]OfferEntry, 0, len(list))
	for _, o := range list {
		e := OfferEntry{
			Time: moment(o.Time), Path: o.Path, SHA256: orNull(o.Ref), Outcome: o.Outcome, Kind: orNull(string(o.Kind)), Reason: o.Reason, Item: orNull(o.Item),
		}
		if o.Size >= 0 {
			e.Size = &o.Size
		}
		out.Body.Entries = append(out.Body.Entries, e)
	}
	out.Body.Next = orNull(next)
	return out, nil
}

// UserEntry is a person as an admin sees them.
type UserEntry struct {
	Person
	Disabled   bool   `json:"disabled" doc:"May not sign in"`
	QuotaBytes *int64 `json:"quota_bytes" minimum:"0" doc:"What the person may keep; null: no limit"`
	Created    moment `json:"created"`

	SecondFactor bool `json:"second_factor" doc:"Signing in takes a code, too"`
	Leaving      bool `json:"leaving" doc:"The account is being cancelled"`
}

func userEntry(u account.User) UserEntry {
	e := UserEntry{Person: Person{ID: u.ID, Username: u.Username, Role: u.Role}, Disabled: !u.Disabled.IsZero(), Created: moment(u.Created), SecondFactor: u.Factor, Leaving: u.Leaving}
	if u.Quota >= 0 {
		e.QuotaBytes = &u.Quota
	}
	return e
}

// UserList is everybody on the box.
type UserList struct {
	Users []UserEntry `json:"users"`
}

type usersAnswer struct {
	Body UserList
}

func (a *API) userList(ctx context.Context) (UserList, error) {
	list, err := a.accounts.Users(ctx)
	if err != nil {
		return UserList{}, err
	}
	out := UserList{Users: make([]UserEntry, 0, len(list))}
	for _, u := range list {
		out.Users = append(out.Users, userEntry(u))
	}
	return out, nil
}

// NewUser is a person to be added.
type NewUser struct {
	Username string     `json:"username" maxLength:"1024"`
	Password string     `json:"password" maxLength:"4096"`
	Role     ident.Role `json:"role,omitempty" enum:"admin,member,child" doc:"Left out: member"`
	Guardian string     `json:"guardian,omitempty" maxLength:"1024" doc:"For a child: the user name of the adult who is to stand for it, and has to accept"`
	OfAge    string     `json:"of_age,omitempty" maxLength:"7" doc:"For a child: the month in which it turns 14, 2031-05; nothing else of its birth is kept"`
}

type createUserInput struct {
	Body NewUser
}

type userAnswer struct {
	Body UserEntry
}

func (a *API) createUser(ctx context.Context, by account.Actor, n NewUser) (UserEntry, error) {
	if n.Role == ident.Child {
		u, err := a.guardian.CreateChild(ctx, by, guardian.NewChild{Username: n.Username, Password: n.Password, OfAge: n.OfAge, Guardian: n.Guardian})
		return userEntry(u), err
	}
	if n.Guardian != "" || n.OfAge != "" {
		return UserEntry{}, &problem.Error{Kind: problem.Invalid, Op: "api.users", Title: "Only a child has a guardian",
			Detail: "Of an adult the box wants to know neither a guardian nor an age.", Hint: "Choose the role child, or leave both out."}
	}
	u, err := a.accounts.CreateUser(ctx, by, account.NewUser{Username: n.Username, Password: n.Password, Role: n.Role})
	return userEntry(u), err
}

// UserChange is what may be changed about a person; what is left out stays.
type UserChange struct {
	Disabled   *bool `json:"disabled,omitempty" doc:"May not sign in"`
	QuotaBytes quota `json:"quota_bytes,omitzero" doc:"What the person may keep; null: no limit"`

	SecondFactor *bool `json:"second_factor,omitempty" doc:"false: reset the second factor of somebody who lost it; they are told"`
}

// quota is a limit in bytes of which JSON can say that there is none: null.
type quota struct {
	said  bool
	bytes int64 // -1: no limit
}

// UnmarshalJSON implements json.Unmarshaler.
func (q *quota) UnmarshalJSON(b []byte) error {
	q.said, q.bytes = true, -1
	if string(b) == "null" {
		return nil
	}
	n, err := strconv.ParseUint(string(b), 10, 63)
	q.bytes = int64(n)
	return err
}

// Schema implements huma.SchemaProvider.
func (quota) Schema(huma.Registry) *huma.Schema {
	zero := 0.0
	return &huma.Schema{Type: huma.TypeInteger, Nullable: true, Format: "int64", Minimum: &zero}
}

type changeUserInput struct {
	ID   idParam[ident.UserID] `path:"id"`
	Body UserChange
}

func (a *API) changeUser(ctx context.Context, in *changeUserInput) (*userAnswer, error) {
	u, err := a.changeUserAs(ctx, account.As(principal(ctx), "http"), in.ID.ID, in.Body)
	return &userAnswer{Body: u}, err
}

// changeUserAs changes a person in the name of an admin and returns how they
// stand.
func (a *API) changeUserAs(ctx context.Context, by account.Actor, id ident.UserID, c UserChange) (UserEntry, error) {
	if c.QuotaBytes.said {
		if err := a.accounts.SetQuota(ctx, by, id, c.QuotaBytes.bytes); err != nil {
			return UserEntry{}, err
		}
	}
	if c.Disabled != nil {
		if err := a.accounts.SetDisabled(ctx, by, id, *c.Disabled); err != nil {
			return UserEntry{}, err
		}
	}
	if c.SecondFactor != nil {
		if *c.SecondFactor {
			return UserEntry{}, &problem.Error{Kind: problem.Invalid, Op: "api.users", Title: "Only the person can set up a second factor",
				Hint: "Send false to reset one that was lost."}
		}
		if err := a.accounts.ResetFactor(ctx, by, id); err != nil {
			return UserEntry{}, err
		}
	}
	u, err := a.accounts.User(ctx, id)
	return userEntry(u), err
}
