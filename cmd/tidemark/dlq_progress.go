package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/tidemark/tidemark/internal/deadletters"
)

// jobProgress tells how a job goes: a bar on a terminal, a line once in a while elsewhere. Where nothing moves it says what may be the matter.
type jobProgress struct {
	w     io.Writer
	job   string
	bar   *progressbar.ProgressBar
	told  time.Time
	timer *time.Timer
}

const (
	progressEvery = 5 * time.Second
	quietFor      = 5 * time.Second
)

func newJobProgress(a *app, j deadletters.Job) *jobProgress {
	p := &jobProgress{w: a.stderr, job: j.ID, told: time.Now()}
	if f, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) { //nolint:gosec // a file descriptor fits
		p.bar = progressbar.NewOptions(j.Total, progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(j.Group), progressbar.OptionShowCount(),
			progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30), progressbar.OptionFullWidth())
	}
	p.timer = time.AfterFunc(quietFor, func() {
		fmt.Fprintf(p.w, "nobody has begun with job %s yet: does a member of group %s run? Ctrl-C stops watching, not the job\n", j.ID, j.Group)
	})
	return p
}

func (p *jobProgress) tell(j deadletters.Job) {
	if j.Done > 0 || j.State.Ended() {
		p.timer.Stop()
	}
	if p.bar != nil {
		_ = p.bar.Set(j.Done) // only looks suffer
		return
	}
	if time.Since(p.told) >= progressEvery {
		p.told = time.Now()
		fmt.Fprintf(p.w, "job %s: %d of %d done, %d failed\n", j.ID, j.Done, j.Total, j.Failed)
	}
}

func (p *jobProgress) end() {
	p.timer.Stop()
	if p.bar != nil {
		_ = p.bar.Exit() // only looks suffer
		fmt.Fprintln(p.w)
	}
}
