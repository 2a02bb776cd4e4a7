package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// request is a request or complaint, as whoever runs the box sees it.
type request struct {
	ID       string     `json:"id"`
	From     *string    `json:"from"` // null: somebody without an account
	Kind     string     `json:"kind"`
	Text     string     `json:"text"`
	Contact  *string    `json:"contact"`
	Verified bool       `json:"verified"`
	Received time.Time  `json:"received"`
	Due      string     `json:"due"`
	Overdue  bool       `json:"overdue"`
	State    string     `json:"state"`
	Answer   *string    `json:"answer"`
	Closed   *time.Time `json:"closed,omitempty"`
}

func (q *request) write(w io.Writer) {
	from, when := "somebody without an account", "due "+q.Due
	if q.From != nil {
		from = shown(*q.From)
	}
	if q.Overdue {
		when += " OVERDUE"
	}
	if q.Closed != nil {
		when = q.State + " " + q.Closed.Local().Format(time.DateOnly) + ", was " + when
	}
	fmt.Fprintf(w, "%s  %s  %s  %s\n  received %s\n", q.ID, q.Kind, from, when, q.Received.Local().Format(time.DateOnly))
	indented(w, "  ", q.Text)
	if q.Contact != nil {
		fmt.Fprintf(w, "  contact: %s\n", shown(*q.Contact))
	}
	if q.Answer != nil {
		indented(w, "  "+q.State+": ", *q.Answer)
	}
}

// indented writes a text of several lines below what it belongs to.
func indented(w io.Writer, head, text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintln(w, head+shown(line))
		head = strings.Repeat(" ", len(head))
	}
}

func (a *app) requestCommand() *cobra.Command {
	top := &cobra.Command{
		Use: "request", Aliases: []string{"requests"}, Short: "See and answer requests and complaints about personal data",
		Long: `Whoever has an account, and whoever has none, may ask, request or complain on the box's page.
An answer is due within 15 working days; yunboxctl status says when one waits. Who asked
reads the answer on the page. That it was answered is in the record of acts, not what it says.`,
	}
	closed := false
	list := &cobra.Command{
		Use: "list", Short: "List the requests that wait, the most urgent first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Requests []request       `json:"requests"`
				Waiting  json.RawMessage `json:"waiting"`
			}
			if err := c.call(cmd.Context(), "GET", fmt.Sprintf("/local/requests?closed=%v", closed), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				if len(out.Requests) == 0 {
					fmt.Fprintln(w, "there is none")
				}
				for i := range out.Requests {
					out.Requests[i].write(w)
				}
			})
		},
	}
	list.Flags().BoolVar(&closed, "closed", false, "those that are closed instead")
	refuse, file := false, ""
	answer := &cobra.Command{
		Use: "answer ID [TEXT]", Short: "Answer a request, which closes it", Args: cobra.RangeArgs(1, 2),
		Long: `answer closes a request with an answer, or with why it is refused. Who is on this computer can see
the words of a command line while it runs: --file takes the answer from a file, - from
standard input.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text := ""
			switch {
			case (len(args) == 2) == (file != ""):
				return usagef("request answer needs its TEXT, or --file")
			case file != "":
				var err error
				if text, err = a.readText(file, maxAnswerFile); err != nil {
					return err
				}
			default:
				text = args[1]
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), "POST", "/local/requests/"+url.PathEscape(args[0])+"/answer", map[string]any{"text": text, "refuse": refuse}, nil); err != nil {
				return err
			}
			state := "answered"
			if refuse {
				state = "refused"
			}
			return a.print(map[string]string{"id": args[0], "state": state}, func(w io.Writer) { fmt.Fprintln(w, state) })
		},
	}
	answer.Flags().BoolVar(&refuse, "refuse", false, "it is refused; the text says why")
	answer.Flags().StringVar(&file, "file", "", "file with the answer, - for standard input")
	top.AddCommand(list, answer)
	return top
}

// maxAnswerFile is the most bytes of an answer that are read from a file; the box takes less.
const maxAnswerFile = 64 << 10

// readText reads a text of at most most bytes from a file, "-" for standard input.
func (a *app) readText(name string, most int64) (string, error) {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", usagef("%s cannot be read", shown(name))
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil || int64(len(b)) > most {
		return "", usagef("%s cannot be read, or is too long", shown(name))
	}
	return string(b), nil
}
