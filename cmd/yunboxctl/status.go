package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/doctor"
	"yunbox.local/daemon/problem"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how the box is, and what to do", Args: cobra.NoArgs,
		Long: `status says on one screen whether something needs looking after, and what to do
then; below that how the box is. It looks at nothing that takes long: doctor does.
With --json it is all that the box says, "attention", a list of
{"check","state","says","do"}, and "jobs" as the command of that name has them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var raw map[string]json.RawMessage // --json passes on all that the box says
			if err := c.call(cmd.Context(), "GET", "/local/status", nil, &raw); err != nil {
				return err
			}
			text, err := json.Marshal(raw)
			if err != nil {
				return err
			}
			var s boxStatus
			if err := json.Unmarshal(text, &s); err != nil {
				return err
			}
			// A box that tries out a new version answers that later: then it is not said.
			if jobs, err := a.listJobs(cmd.Context()); err == nil {
				s.Jobs = jobs
				if raw["jobs"], err = json.Marshal(jobs); err != nil {
					return err
				}
			}
			attention := s.attention(time.Now())
			if raw["attention"], err = json.Marshal(attention); err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) { s.draw(screenOf(w), attention, time.Now()) })
		},
	}
}

// attention is what needs looking after, the worst first, by what the box says of
// itself without a look at anything.
func (s *boxStatus) attention(now time.Time) []doctor.Finding {
	worst, rest := []doctor.Finding{}, []doctor.Finding{}
	find := func(state doctor.State, check, says, do string) {
		f := doctor.Finding{Check: check, State: state, Says: says, Do: do}
		if state == doctor.Fail {
			worst = append(worst, f)
		} else {
			rest = append(rest, f)
		}
	}
	if !s.Volume.OK {
		find(doctor.Fail, "volume", "The disk failed, or can only be read: nothing new is taken.", "Look after the disk, then restart yunboxd.")
	}
	if s.Records != nil && !s.Records.OK {
		find(doctor.Fail, "journal", "The catalogue or its journal is not sound.", "`yunboxctl doctor` says more; look after the disk.")
	}
	if f := doctor.Space(s.Disk.Free, s.Disk.Total, 0, 0); f.State == doctor.Fail || f.State == doctor.Warn {
		find(f.State, f.Check, f.Says, f.Do)
	}
	if n := s.Scrub.Damaged; n > 0 {
		find(doctor.Fail, "damage", plural(n, "content is damaged and waits", "contents are damaged and wait")+" for a device that has the file.", "`yunboxctl repair`, then back up again from the devices.")
	}
	if n := s.Network; n != nil && n.MDNS != "off" {
		switch {
		case n.Error != "":
			do := "`yunboxctl doctor` says more. Apps reach the box by its address."
			if n.MDNS == "avahi" {
				do = avahiDo
			}
			find(doctor.Warn, "mdns", "Not announced on the network as it should be: "+n.Error+".", do)
		case n.Seen != nil && !*n.Seen:
			find(doctor.Warn, "mdns", "The box does not see itself on the network.", "Is UDP port 5353 open in the firewall? `yunboxctl doctor` looks again.")
		}
	}
	if !s.Bound {
		find(doctor.Warn, "owner", "The box has no owner yet.", "`yunboxctl label` shows what its owner needs.")
	}
	if n := s.Requests.Overdue; n > 0 {
		find(doctor.Fail, "requests", plural(n, "request", "requests")+" of people had to be answered by now.", "`yunboxctl request list`")
	} else if n := s.Requests.Open; n > 0 {
		find(doctor.Warn, "requests", plural(n, "request of somebody waits", "requests of people wait")+" for an answer, by "+s.Requests.Due+" at the latest.", "`yunboxctl request list`")
	}
	if s.Scrub.Oldest != nil && s.Scrub.Days > 0 && now.Sub(*s.Scrub.Oldest) > time.Duration(s.Scrub.Days+10)*24*time.Hour {
		find(doctor.Warn, "scrub", "Some contents were not read back for "+days(now.Sub(*s.Scrub.Oldest))+".", "Leave the box on at night, or `yunboxctl scrub --full`.")
	}
	newest := time.Time{}
	for _, c := range s.SecondCopies {
		if c.Missing == 0 && c.Damaged == 0 && c.Time != nil && c.Time.After(newest) {
			newest = *c.Time
		}
	}
	switch {
	case len(s.SecondCopies) == 0 && s.Items > 0:
		find(doctor.Warn, "second-copy", "There is no second copy: should this disk die, the files are lost.", "Attach another disk, then `yunboxctl backup add`.")
	case len(s.SecondCopies) > 0 && newest.IsZero():
		find(doctor.Fail, "second-copy", "No second copy is complete.", "`yunboxctl backup list`, `yunboxctl backup run`")
	case len(s.SecondCopies) > 0 && now.Sub(newest) > 14*24*time.Hour:
		find(doctor.Warn, "second-copy", "The newest second copy is "+days(now.Sub(newest))+" old.", "Attach its disk, then `yunboxctl backup run`.")
	}
	for _, j := range s.Jobs {
		// What damage there is was said above.
		if j.Says != "" && (j.State == "failed" || j.Kind == "erasure" || j.Kind == "cancellation") {
			find(doctor.Warn, "jobs", j.Kind+": "+j.Says, j.Do)
		}
	}
	return append(worst, rest...)
}

// runs says what the box does beside answering.
func (s *boxStatus) runs() string {
	text := plural(s.Uploads, "upload", "uploads") + " running"
	var kinds []string
	for _, j := range s.Jobs {
		if j.State == "running" && !slices.Contains(kinds, j.Kind) {
			kinds = append(kinds, j.Kind)
		}
	}
	if len(kinds) > 0 {
		text += "; in the background: " + strings.Join(kinds, ", ")
	}
	return text
}

// shownAttention is how much fits above what always stands there, on 24 lines.
const shownAttention = 4

func (s *boxStatus) draw(x screen, attention []doctor.Finding, now time.Time) {
	head := fmt.Sprintf("%s, version %s, up %s: ", s.Name, s.Version, clock(time.Duration(s.Uptime*float64(time.Second))))
	if len(attention) == 0 {
		x.broken(head+"all is well", green, 0)
	} else {
		colour := yellow
		if attention[0].State == doctor.Fail {
			colour = red
		}
		x.broken(head+plural(int64(len(attention)), "thing needs", "things need")+" looking after", colour, 0)
	}
	room := shownAttention
	if len(attention) > room {
		room--
	}
	for i, f := range attention {
		if i == room {
			x.line(fmt.Sprintf("  and %d more: `yunboxctl doctor`", len(attention)-room), "")
			break
		}
		mark := "! "
		if f.State == doctor.Fail {
			mark = "!! "
		}
		x.broken(mark+f.Says, bold, len(mark))
		x.broken("   "+f.Do, "", 3)
	}
	for _, row := range s.rows(now) {
		x.broken(fmt.Sprintf("%-13s%s", row[0], row[1]), "", 13)
	}
}

// rows are at most 14.
func (s *boxStatus) rows(now time.Time) [][2]string {
	bound, volume := "no: `yunboxctl label` shows what its owner needs", "ok, "+s.Volume.ID
	if s.Bound {
		bound = "yes"
	}
	if !s.Volume.OK {
		volume = "NOT OK: " + s.Volume.Error
	}
	catalogue := "not said"
	switch r := s.Records; {
	case r == nil:
	case !r.OK:
		catalogue = "NOT OK: " + r.Error
	case r.Generations == 0:
		catalogue = "ok, no copy in its journal yet"
	default:
		catalogue = fmt.Sprintf("ok, %s in its journal, the newest of %s", plural(int64(r.Generations), "copy", "copies"), r.Newest.Local().Format(time.DateTime))
	}
	second := "none: add one with `yunboxctl backup add`"
	for i, c := range s.SecondCopies {
		if i == 0 {
			second = c.Name + ": " + c.summary(now)
		} else if i == len(s.SecondCopies)-1 {
			second += fmt.Sprintf("; and %d more", i)
		}
	}
	used := int64(0)
	if s.Disk.Total > 0 {
		used = (s.Disk.Total - s.Disk.Free) * 100 / s.Disk.Total
	}
	return [][2]string{
		{"addresses", strings.Join(s.Addresses, " ")}, {"fingerprint", s.Fingerprint}, {"key words", strings.Join(s.Words, " ")}, {"bound", bound},
		{"volume", volume}, {"catalogue", catalogue},
		{"disk", fmt.Sprintf("%s free of %s, %d %% used", problem.Bytes(s.Disk.Free), problem.Bytes(s.Disk.Total), used)},
		{"memory", problem.Bytes(s.Memory.RSS) + ", " + s.runs()},
		{"kept", fmt.Sprintf("%s, %s for %s", plural(s.Items, "file", "files"), problem.Bytes(s.Logical), plural(s.Users, "person", "people"))},
		{"stored", fmt.Sprintf("%s, %s", plural(s.Blobs, "content", "contents"), problem.Bytes(s.Physical))},
		{"read back", s.Scrub.coverage(now)}, {"damage", s.Scrub.damage()},
		{"network", s.announced()}, {"second copy", second},
	}
}

// speaker is who announces the box, in words for people.
func speaker(mdns string) string {
	if mdns == "avahi" {
		return "Avahi"
	}
	return "the box itself"
}

// announced says how the box is found on the network.
func (s *boxStatus) announced() string {
	n := s.Network
	switch {
	case n == nil:
		return "not said"
	case n.MDNS == "off":
		return "not announced: mdns is off"
	case len(n.Links) == 0:
		return "NOT announced: not yet, or there is no network"
	}
	text := "announced by " + speaker(n.MDNS) + " on " + strings.Join(n.Links, ", ")
	switch {
	case n.Seen == nil:
	case *n.Seen:
		text += "; it sees itself"
	default:
		text += "; it does NOT see itself"
	}
	return text
}
