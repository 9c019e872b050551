package deadletters

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// page writes names and values in two columns, and remembers the first error.
type page struct{ w *tabwriter.Writer }

func newPage(out io.Writer) page { return page{tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)} }

func (p page) row(name, format string, args ...any) {
	if text := fmt.Sprintf(format, args...); text != "" {
		fmt.Fprintf(p.w, "%s\t%s\n", name, text) // Flush tells the error
	}
}

func (p page) time(name string, t *time.Time) {
	if t != nil {
		p.row(name, "%s", stamp(*t))
	}
}

func (p page) title(text string) { fmt.Fprintf(p.w, "\n%s\n", text) }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000Z") }

// Print writes a letter for a person.
func (d *Details) Print(out io.Writer) error {
	p := newPage(out)
	d.printEnvelope(p)
	p.title("PAYLOAD")
	d.Payload.print(p)
	if d.Original != nil {
		p.title("ORIGINAL PAYLOAD, BEFORE THE CORRECTION")
		d.Original.print(p)
	}
	if len(d.Headers) > 0 {
		p.title("HEADERS")
		names := make([]string, 0, len(d.Headers))
		for name := range d.Headers {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			for _, value := range d.Headers[name] {
				p.row("  "+name, "%s", value)
			}
		}
	}
	if len(d.Failures) > 0 {
		p.title("ATTEMPTS THAT FAILED")
		for _, f := range d.Failures {
			fmt.Fprintf(p.w, "  %s\t%s\t%s\t%s\n", stamp(f.At), f.Instance, f.Reason, f.Error)
		}
	}
	d.printHistory(p)
	return p.w.Flush()
}

func (d *Details) printEnvelope(p page) {
	p.row("letter", "%s", d.ID)
	p.row("group", "%s, partition %d", d.Group, d.Partition)
	p.row("state", "%s", d.State)
	p.time("next try", d.NextAt)
	p.row("key", "%s", d.Key)
	p.row("reason", "%s", d.Reason)
	p.row("error", "%s", d.Error)
	p.row("fingerprint", "%s", d.Fingerprint)
	p.row("attempts", "%d", d.Attempts)
	if d.Depth > 0 {
		p.row("failed replays", "%d", d.Depth)
	}
	p.time("first failed", d.FirstFailedAt)
	p.time("last failed", d.LastFailedAt)
	if !d.ParkedAt.IsZero() {
		p.row("parked", "%s", stamp(d.ParkedAt))
	}
	p.row("handler", "%s", d.Handler)
	p.row("build", "%s", d.Build)
	p.row("instance", "%s", d.Instance)
	p.row("trace", "%s", d.TraceParent)
	p.row("event", "%s", d.EventID)
	p.row("type", "%s", d.EventType)
	p.row("stored", "%s %d", d.Stream, d.StreamSeq)
	p.time("stored at", d.StoredAt)
	if d.KeyVersion > 0 {
		p.row("version", "%s", strconv.FormatUint(d.KeyVersion, 10))
	}
	p.row("note", "%s", d.Note)
	if d.Stack != "" {
		p.title("STACK")
		fmt.Fprintf(p.w, "%s\n", d.Stack)
	}
}

func (d *Details) printHistory(p page) {
	if len(d.History) == 0 {
		return
	}
	p.title("HISTORY")
	for _, h := range d.History {
		fmt.Fprintf(p.w, "  %s\t%s\t%s\n", stamp(h.At), h.By, h.what())
	}
}

// what says an action in a line.
func (a *Action) what() string {
	parts := []string{string(a.Action)}
	if a.Before != "" && a.Before != a.State {
		parts[0] += fmt.Sprintf(": %s -> %s", a.Before, a.State)
	}
	for _, part := range [][2]string{{"why", a.Why}, {"note", a.Note}, {"error", a.Error}, {"job", a.Job}} {
		if part[1] != "" {
			parts = append(parts, part[0]+": "+part[1])
		}
	}
	if a.Edit != nil {
		parts = append(parts, fmt.Sprintf("%.19s -> %.19s", a.Edit.Before, a.Edit.After))
	}
	return strings.Join(parts, "; ")
}

func (b *Payload) print(p page) {
	var indented bytes.Buffer
	switch {
	case b.Missing != "":
		fmt.Fprintf(p.w, "  (%s)\n", b.Missing)
	case b.JSON != nil && json.Indent(&indented, b.JSON, "  ", "  ") == nil:
		fmt.Fprintf(p.w, "  %s\n", indented.String())
	case b.Text != "":
		fmt.Fprintf(p.w, "  (%d bytes, no JSON)\n  %s\n", b.Size, b.Text)
	case b.Base64 != "":
		fmt.Fprintf(p.w, "  (%d bytes, no text) base64:\n  %s\n", b.Size, b.Base64)
	default:
		fmt.Fprintln(p.w, "  (empty)")
	}
}

// Print writes a job for a person.
func (j *JobDetails) Print(out io.Writer) error {
	p := newPage(out)
	p.row("job", "%s", j.ID)
	p.row("kind", "%s", j.Kind)
	p.row("group", "%s", j.Group)
	p.row("state", "%s", j.State)
	p.row("made", "%s by %s: %s", stamp(j.MadeAt), j.By, j.Why)
	p.row("ended", "%s", j.Ended)
	if j.Rate > 0 {
		p.row("rate", "%g letters a second", j.Rate)
	}
	if j.Canary {
		p.row("canary", "one, then ten, then the rest")
	}
	if j.StopRatio > 0 {
		p.row("stops", "when more than %g of the replays failed", j.StopRatio)
	}
	if j.Force {
		p.row("force", "also letters that failed in three replays")
	}
	p.row("letters", "%d: %d resolved, %d discarded, %d failed, %d skipped, %d to do", j.Total, j.Resolved, j.Discarded, j.Failed, j.Skipped, j.Total-j.Done)
	p.title("STEPS")
	for _, s := range j.Steps {
		fmt.Fprintf(p.w, "  %s\t%s\t%s\t%d done\t%s\n", stamp(s.At), s.State, s.By, s.Done, s.Why)
	}
	p.title("LETTERS")
	for _, id := range j.Letters {
		fmt.Fprintf(p.w, "  %s\n", id)
	}
	return p.w.Flush()
}
