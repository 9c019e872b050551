package groups

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Print writes a table: a line a group, and below it a line for each member.
func Print(w io.Writer, all []Group, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "GROUP\tREADS\tPARTITIONS\tOFFSET\tLAG\tPENDING\tPARKED\tLAST ACTIVITY")
	for _, g := range all {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%d\t%d\t%s\n", g.Group, g.Stream, len(g.Partitions), offsets(g.Partitions), g.Lag, g.Pending, g.Parked, ago(g.LastActivity, now))
		for _, row := range rows(g) {
			fmt.Fprintf(t, "  %s\t\t%s\t%s\t%s\t%s\t\t%s\n", row.name, row.partitions, row.offset, row.lag, row.pending, row.last)
		}
	}
	return t.Flush()
}

// PrintOne writes one group in full: a line a partition.
func PrintOne(w io.Writer, g Group, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "group\t%s\nreads\t%s\n", g.Group, g.Stream)
	if g.Service != "" {
		fmt.Fprintf(t, "service\t%s\n", g.Service)
	}
	if g.Single {
		fmt.Fprintln(t, "active members\tone, the others stand by")
	}
	fmt.Fprintf(t, "lag\t%d\npending\t%d\nparked\t%d\nlast activity\t%s\n", g.Lag, g.Pending, g.Parked, ago(g.LastActivity, now))
	for _, m := range g.Members {
		what := "stands by"
		if len(m.Partitions) > 0 {
			what = "partitions " + ranges(m.Partitions)
		}
		fmt.Fprintf(t, "member\t%s, %s, since %s\n", m.Name, what, m.Since.Local().Format(time.DateTime))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "PARTITION\tOWNER\tOFFSET\tDELIVERED\tLAG\tPENDING\tLAST ACTIVITY")
	for _, p := range g.Partitions {
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%d\t%d\t%s\n", p.Partition, owner(p), p.Offset, p.Delivered, p.Lag, p.Pending, ago(p.LastActivity, now))
	}
	return t.Flush()
}

func owner(p Partition) string {
	switch {
	case p.Owner != "":
		return p.Owner
	case p.Active:
		return "unknown"
	default:
		return "nobody"
	}
}

// row is the part of a group that one member has.
type row struct{ name, partitions, offset, lag, pending, last string }

func rows(g Group) []row {
	var out []row
	names := make([]string, 0, len(g.Members)+2)
	for _, m := range g.Members {
		names = append(names, m.Name)
	}
	for _, p := range g.Partitions {
		if name := owner(p); p.Owner == "" && (len(names) == 0 || names[len(names)-1] != name) {
			names = append(names, name)
		}
	}
	now := time.Now()
	for _, name := range names {
		var numbers []int
		var its []Partition
		var part Group
		for _, p := range g.Partitions {
			if owner(p) == name {
				numbers, its = append(numbers, p.Partition), append(its, p)
				part.Lag, part.Pending, part.LastActivity = part.Lag+p.Lag, part.Pending+p.Pending, later(part.LastActivity, p.LastActivity)
			}
		}
		if len(its) == 0 {
			out = append(out, row{name: name, partitions: "stands by"})
			continue
		}
		out = append(out, row{
			name: name, partitions: ranges(numbers), offset: offsets(its), last: ago(part.LastActivity, now),
			lag: strconv.FormatUint(part.Lag, 10), pending: strconv.FormatUint(part.Pending, 10),
		})
	}
	return out
}

// offsets are the least and the greatest committed offset.
func offsets(ps []Partition) string {
	if len(ps) == 0 {
		return "-"
	}
	least, most := ps[0].Offset, ps[0].Offset
	for _, p := range ps {
		least, most = min(least, p.Offset), max(most, p.Offset)
	}
	if least == most {
		return strconv.FormatUint(most, 10)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

// ranges writes numbers in their order as "0-3,5".
func ranges(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		part := strconv.Itoa(numbers[i])
		if j > i {
			part += "-" + strconv.Itoa(numbers[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}

func ago(at *time.Time, now time.Time) string {
	if at == nil || at.IsZero() {
		return "never"
	}
	d := max(now.Sub(*at), 0)
	if d < time.Second {
		return "now"
	}
	return d.Round(time.Second).String() + " ago"
}
