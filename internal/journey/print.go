package journey

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
)

// Print writes a line a step.
func (j *Journey) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "order\t%s\n", j.Order)
	if j.Trace != "" {
		fmt.Fprintf(w, "trace\t%s\n", j.Trace)
	}
	if j.Jaeger != "" {
		fmt.Fprintf(w, "jaeger\t%s\n", j.Jaeger)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nSTORED\tLAG\tSTREAM\tSEQUENCE\tPARTITION\tATTEMPT\tWHAT\tDETAIL")
	for i := range j.Steps {
		s := &j.Steps[i]
		what := s.What
		if s.Group != "" {
			what += " of " + s.Group
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", s.At.Format("15:04:05.000"), lag(i, s.Lag), s.Stream, s.Sequence, s.Partition, attempt(s.Attempt), what, s.Detail)
	}
	return w.Flush()
}

func lag(i int, d time.Duration) string {
	if i == 0 {
		return "-"
	}
	return "+" + d.Round(100*time.Microsecond).String()
}

func attempt(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}
