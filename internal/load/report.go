package load

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	badShown    = 20              // bad lines that are told one by one
	retryEvery  = 5 * time.Second // an API that is down is told once in a while, not by each request that waits
	statusEvery = 5 * time.Second // the same for progress where there is no terminal
)

// reporter tells how it goes: a bar on a terminal, a line once in a while elsewhere.
type reporter struct {
	mu    sync.Mutex
	w     io.Writer
	shows bool // w is a terminal
	bar   *progressbar.ProgressBar

	what        string
	done, total int
	told        time.Time
	retryTold   time.Time
	bad         int
}

func newReporter(w io.Writer) *reporter {
	r := &reporter{w: w}
	if f, ok := w.(*os.File); ok {
		r.shows = term.IsTerminal(int(f.Fd())) //nolint:gosec // a file descriptor fits
	}
	return r
}

// say prints one line, above the bar if there is one.
func (r *reporter) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line(format, args...)
}

func (r *reporter) line(format string, args ...any) {
	if r.bar != nil {
		_ = r.bar.Clear() // only looks suffer
	}
	_, _ = fmt.Fprintf(r.w, format+"\n", args...) // there is nowhere to tell that stderr is gone
}

// phase begins a new count.
func (r *reporter) phase(what string, total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
	r.what, r.done, r.total, r.told = what, 0, total, time.Now()
	if r.shows && total > 0 {
		r.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(r.w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
			progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30), progressbar.OptionFullWidth())
	}
}

func (r *reporter) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	if r.bar != nil {
		_ = r.bar.Add(n) // only looks suffer
		return
	}
	if !r.shows && time.Since(r.told) >= statusEvery {
		r.told = time.Now()
		r.line("%s: %d of %d", r.what, r.done, r.total)
	}
}

func (r *reporter) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
}

func (r *reporter) end() {
	if r.bar != nil {
		_ = r.bar.Exit() // only looks suffer
		_, _ = fmt.Fprintln(r.w)
		r.bar = nil
	}
}

func (r *reporter) badLine(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad++
	if r.bad <= badShown {
		r.line("left out: %v", err)
	}
}

func (r *reporter) badTotal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bad > badShown {
		r.line("left out: %d lines in all that can't be read", r.bad)
	}
}

func (r *reporter) retry(err error, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.retryTold) < retryEvery {
		return
	}
	r.retryTold = time.Now()
	r.line("waiting for the API: %v; next try in %s", err, wait.Round(time.Millisecond))
}
