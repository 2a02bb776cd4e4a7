package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
)

// Log returns the log of a box that writes to out, as text or, with format "json", as
// JSON, one line a record. Where out is the system's journal, each line begins with its
// priority (sd-daemon(3)), and has no time of its own.
func Log(out io.Writer, format string) *slog.Logger {
	f, ok := out.(*os.File)
	return newLog(out, format, ok && isJournal(f, os.Getenv("JOURNAL_STREAM")))
}

func newLog(out io.Writer, format string, journal bool) *slog.Logger {
	opt := &slog.HandlerOptions{}
	if journal {
		opt.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{} // the journal has it
			}
			return a
		}
	}
	handler := func(w io.Writer) slog.Handler {
		if format == "json" {
			return slog.NewJSONHandler(w, opt)
		}
		return slog.NewTextHandler(w, opt)
	}
	if !journal {
		return slog.New(handler(out))
	}
	var p priorities
	for i, level := range []int{7, 6, 4, 3} { // debug, info, warning, err: syslog(3)
		p[i] = handler(prefixed{out, []byte(fmt.Sprintf("<%d>", level))})
	}
	return slog.New(p)
}

// isJournal reports whether f is what JOURNAL_STREAM names (systemd.exec(5)):
// somebody may have redirected it since.
func isJournal(f *os.File, stream string) bool {
	var device, inode uint64
	if n, err := fmt.Sscanf(stream, "%d:%d", &device, &inode); n != 2 || err != nil {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && uint64(st.Dev) == device && st.Ino == inode //nolint:unconvert // it is shorter on some architectures
}

// prefixed writes each record, which comes in one piece, with its priority before it.
type prefixed struct {
	w      io.Writer
	prefix []byte
}

// Write implements io.Writer.
func (p prefixed) Write(line []byte) (int, error) {
	n, err := p.w.Write(append(p.prefix[:len(p.prefix):len(p.prefix)], line...))
	return max(n-len(p.prefix), 0), err
}

// priorities is a handler for each: of debug, info, warnings and errors.
type priorities [4]slog.Handler

func (p priorities) of(level slog.Level) slog.Handler {
	switch {
	case level < slog.LevelInfo:
		return p[0]
	case level < slog.LevelWarn:
		return p[1]
	case level < slog.LevelError:
		return p[2]
	}
	return p[3]
}

// Enabled implements slog.Handler.
func (p priorities) Enabled(ctx context.Context, level slog.Level) bool {
	return p.of(level).Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (p priorities) Handle(ctx context.Context, r slog.Record) error {
	return p.of(r.Level).Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (p priorities) WithAttrs(attrs []slog.Attr) slog.Handler {
	for i, h := range p {
		p[i] = h.WithAttrs(attrs)
	}
	return p
}

// WithGroup implements slog.Handler.
func (p priorities) WithGroup(name string) slog.Handler {
	for i, h := range p {
		p[i] = h.WithGroup(name)
	}
	return p
}
