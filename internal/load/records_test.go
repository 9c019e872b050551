package load

import (
	"encoding/csv"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func readRecords(text string) (got [][]string, bad []int, err error) {
	r := newRecords(strings.NewReader(text))
	for {
		rec, err := r.next()
		if b, ok := errors.AsType[*badLine](err); ok {
			bad = append(bad, b.line)
			continue
		}
		if errors.Is(err, io.EOF) {
			return got, bad, nil
		}
		if err != nil {
			return got, bad, err
		}
		got = append(got, append([]string(nil), rec.fields...))
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want [][]string
		bad  []int
	}{
		"plain":             {"a,b\nc,\n", [][]string{{"a", "b"}, {"c", ""}}, nil},
		"quoted":            {"\"a,\"\"b\"\"\",c\r\n\"\"\n", [][]string{{`a,"b"`, "c"}, {""}}, nil},
		"line break inside": {"\"a\r\nb\",c\nd\n", [][]string{{"a\nb", "c"}, {"d"}}, nil},
		"never closed":      {"\"a,b\nc,d\ne,f\n", [][]string{{"c", "d"}, {"e", "f"}}, []int{1}},
		"two never closed":  {"\"a,b\nc,\"d\ne,f\n", [][]string{{"e", "f"}}, []int{1, 2}},
		"closed too late":   {"\"a\n" + strings.Repeat("x\n", maxJoin) + "b\"\n", nil, []int{1, maxJoin + 2}},
		"stray quote":       {"a\"b,c\nd\n", [][]string{{"d"}}, []int{1}},
		"text after quote":  {"\"a\"b,c\nd", [][]string{{"d"}}, []int{1}},
		"long inside open":  {"\"a\n" + strings.Repeat("y", maxLine+1) + "\nz\n", [][]string{{"z"}}, []int{1, 2}},
		"long, no end":      {"a\n" + strings.Repeat("y", maxLine+1), [][]string{{"a"}}, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, bad, err := readRecords(c.text)
			if name == "closed too late" {
				c.want = nil
				for range maxJoin {
					c.want = append(c.want, []string{"x"})
				}
			}
			if err != nil || !reflect.DeepEqual(got, c.want) || !reflect.DeepEqual(bad, c.bad) {
				t.Errorf("got %q, bad lines %v, error %v; want %q, %v", got, bad, err, c.want, c.bad)
			}
		})
	}
}

// FuzzRecords compares with encoding/csv wherever that finds nothing to complain about, and holds everywhere that reading ends and that each
// line is told once at most.
//
// It faces outside.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{sample, "\"a\nb\",c\n", "\"a,b\nc\n", "a\"b\n", "\"\"\"\"\n\n\r\n,", "\r\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, "\n") > maxJoin || len(text) > maxLine {
			return
		}
		got, bad, err := readRecords(text)
		if err != nil {
			t.Fatalf("reading: %v", err)
		}
		for i := 1; i < len(bad); i++ {
			if bad[i] <= bad[i-1] {
				t.Fatalf("bad lines %v are not in order", bad)
			}
		}
		standard := csv.NewReader(strings.NewReader(text))
		standard.FieldsPerRecord = -1
		want, err := standard.ReadAll()
		if err != nil {
			return
		}
		if len(bad) > 0 || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("got %q, bad lines %v; encoding/csv reads %q", got, bad, want)
		}
	})
}
