package events

import (
	"fmt"
	"regexp"
	"sync/atomic"
	"unicode/utf8"
)

// precheck is a compiled schema that reads a payload's bytes once, without decoding them. It knows two answers: "surely valid" and "don't know".
// What it doesn't know goes to the JSON Schema library, which has the last word and names the fields, so the precheck can make
// publishing faster but can never let anything pass that the library would refuse (a fuzz test compares the two). It exists since the library
// alone costs a hundred microseconds for an order of 25 lines: more than all the rest of publishing it.
//
// Unknown fields, escaped strings and numbers with a fraction are "don't know". A schema with a keyword that [schemaNode] does not have gets
// no precheck.
type precheck struct {
	kind       byte           // 'o' object, 'a' array, 's' string, 'i' integer
	properties []property     // in the order of the schema, which is the one that our publishers write
	byName     map[string]int // index into properties
	required   uint64         // bit i: the property with index i must be there
	items      *precheck
	minimum    int64
	low, high  int // length of a string in code points, or items of an array
	enum       map[string]struct{}
	pattern    *regexp.Regexp
	fitting    atomic.Pointer[string] // the last value that matched pattern: often the next one is the same
	dateTime   bool
}

type property struct {
	name  string
	check *precheck
}

const unlimited = int(^uint(0) >> 1)

// compilePrecheck fails where a schema uses what the precheck does not know.
func compilePrecheck(n *schemaNode) (*precheck, error) {
	c := &precheck{minimum: -1 << 63, high: unlimited}
	switch {
	case n.Type == "object" && len(n.Properties.names) <= 64:
		return c, c.compileObject(n)
	case n.Type == "array" && n.Items != nil:
		c.kind, c.low = 'a', n.MinItems
		if n.MaxItems != nil {
			c.high = *n.MaxItems
		}
		items, err := compilePrecheck(n.Items)
		c.items = items
		return c, err
	case n.Type == "integer":
		c.kind = 'i'
		if n.Minimum != nil {
			c.minimum = *n.Minimum
		}
		return c, nil
	case n.Type == "string", n.Type == "" && len(n.Enum) > 0:
		return c, c.compileString(n)
	}
	return nil, fmt.Errorf("type %q: unknown to the precheck", n.Type)
}

func (c *precheck) compileObject(n *schemaNode) error {
	c.kind, c.byName = 'o', make(map[string]int, len(n.Properties.names))
	for i, name := range n.Properties.names {
		check, err := compilePrecheck(n.Properties.byName[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		c.properties = append(c.properties, property{name: name, check: check})
		c.byName[name] = i
	}
	for _, name := range n.Required {
		i, ok := c.byName[name]
		if !ok {
			return fmt.Errorf("%s: required, but no property", name)
		}
		c.required |= 1 << i
	}
	return nil
}

func (c *precheck) compileString(n *schemaNode) error {
	c.kind, c.low = 's', n.MinLength
	if n.MaxLength != nil {
		c.high = *n.MaxLength
	}
	if len(n.Enum) > 0 {
		c.enum = make(map[string]struct{}, len(n.Enum))
		for _, v := range n.Enum {
			c.enum[v] = struct{}{}
		}
	}
	switch n.Format {
	case "":
	case "date-time":
		c.dateTime = true
	default:
		return fmt.Errorf("format %q: unknown to the precheck", n.Format)
	}
	if n.Pattern == "" {
		return nil
	}
	pattern, err := regexp.Compile(n.Pattern)
	c.pattern = pattern
	return err
}

// newPrecheck compiles a schema. A keyword that the precheck does not know is an error, not something to overlook.
func newPrecheck(raw []byte) (*precheck, error) {
	n, err := parseSchema(raw)
	if err != nil {
		return nil, err
	}
	return compilePrecheck(n)
}

// sure reports whether data is one JSON value that surely keeps the schema. No precheck is never sure.
func (c *precheck) sure(data []byte) bool {
	if c == nil {
		return false
	}
	i := c.value(data, skipSpace(data, 0))
	return i >= 0 && skipSpace(data, i) == len(data)
}

// value checks the value that begins at i and returns the place behind it, or -1 for "don't know".
func (c *precheck) value(data []byte, i int) int {
	switch c.kind {
	case 'o':
		return c.object(data, i)
	case 'a':
		return c.array(data, i)
	case 's':
		return c.text(data, i)
	default:
		return c.integer(data, i)
	}
}

func (c *precheck) object(data []byte, i int) int {
	if !at(data, i, '{') {
		return -1
	}
	var seen uint64
	if i = skipSpace(data, i+1); at(data, i, '}') {
		return c.complete(seen, i+1)
	}
	for next := 0; ; {
		n, end := c.named(data, i, next)
		if end < 0 {
			return -1
		}
		next = n + 1
		if i = skipSpace(data, end); !at(data, i, ':') {
			return -1
		}
		if i = c.properties[n].check.value(data, skipSpace(data, i+1)); i < 0 {
			return -1
		}
		seen |= 1 << n
		i = skipSpace(data, i)
		switch {
		case at(data, i, ','):
			i = skipSpace(data, i+1)
		case at(data, i, '}'):
			return c.complete(seen, i+1)
		default:
			return -1
		}
	}
}

// named reads the name of a property, which begins at i, and returns its index and the place behind it, or -1 for "don't know". The guess is mostly right: then the name is
// compared, and neither scanned nor looked up.
func (c *precheck) named(data []byte, i, guess int) (index, end int) {
	if guess < len(c.properties) && at(data, i, '"') {
		name := c.properties[guess].name
		if end := i + 1 + len(name); at(data, end, '"') && string(data[i+1:end]) == name {
			return guess, end + 1
		}
	}
	end, _ = scanString(data, i)
	if end < 0 {
		return 0, -1
	}
	index, ok := c.byName[string(data[i+1:end-1])] // the compiler does not copy for a look-up
	if !ok {
		return 0, -1
	}
	return index, end
}

func (c *precheck) complete(seen uint64, i int) int {
	if seen&c.required != c.required {
		return -1
	}
	return i
}

func (c *precheck) array(data []byte, i int) int {
	if !at(data, i, '[') {
		return -1
	}
	if i = skipSpace(data, i+1); at(data, i, ']') {
		if c.low > 0 {
			return -1
		}
		return i + 1
	}
	for n := 1; n <= c.high; n++ {
		if i = c.items.value(data, i); i < 0 {
			return -1
		}
		i = skipSpace(data, i)
		switch {
		case at(data, i, ','):
			i = skipSpace(data, i+1)
		case at(data, i, ']') && n >= c.low:
			return i + 1
		default:
			return -1
		}
	}
	return -1
}

func (c *precheck) text(data []byte, i int) int {
	end, ascii := scanString(data, i)
	if end < 0 {
		return -1
	}
	s := data[i+1 : end-1]
	n := len(s)
	if !ascii {
		n = utf8.RuneCount(s)
	}
	if n < c.low || n > c.high {
		return -1
	}
	if c.enum != nil {
		if _, ok := c.enum[string(s)]; !ok {
			return -1
		}
	}
	if c.pattern != nil && !c.matches(s) || c.dateTime && !plainTime(s) {
		return -1
	}
	return end
}

func (c *precheck) matches(s []byte) bool {
	if last := c.fitting.Load(); last != nil && *last == string(s) {
		return true
	}
	if !c.pattern.Match(s) {
		return false
	}
	fits := string(s)
	c.fitting.Store(&fits)
	return true
}

// integer knows numbers of up to 18 digits without fraction and exponent.
func (c *precheck) integer(data []byte, i int) int {
	negative := at(data, i, '-')
	if negative {
		i++
	}
	start, v := i, int64(0)
	for ; i < len(data) && data[i] >= '0' && data[i] <= '9'; i++ {
		if i-start == 18 {
			return -1
		}
		v = v*10 + int64(data[i]-'0')
	}
	if i == start || data[start] == '0' && i > start+1 {
		return -1
	}
	if negative {
		v = -v
	}
	if v < c.minimum {
		return -1
	}
	return i
}

// scanString returns the place behind the string that begins at i, or -1 where it is escaped, no valid UTF-8, or no string.
func scanString(data []byte, i int) (end int, ascii bool) {
	if !at(data, i, '"') {
		return -1, false
	}
	ascii = true
	for j := i + 1; j < len(data); j++ {
		c := data[j]
		if c-'#' < utf8.RuneSelf-'#' && c != '\\' { // all but control characters, ' ', '!', '"', '\' and what is not ASCII: nearly every byte, in two comparisons
			continue
		}
		switch {
		case c == '"':
			if !ascii && !utf8.Valid(data[i+1:j]) {
				return -1, false
			}
			return j + 1, ascii
		case c == '\\' || c < ' ':
			return -1, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return -1, false
}

// plainTime knows RFC 3339 times in UTC whose day every month has.
func plainTime(s []byte) bool {
	const layout = "0000-00-00T00:00:00"
	if len(s) < len(layout)+1 || s[len(s)-1] != 'Z' {
		return false
	}
	for i := range len(layout) {
		if layout[i] != '0' && s[i] != layout[i] || layout[i] == '0' && (s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	two := func(i int) byte { return (s[i]-'0')*10 + s[i+1] - '0' }
	month, day := two(5), two(8)
	if month < 1 || month > 12 || day < 1 || day > 31 || day > 28 && !longMonth(month, day) {
		return false
	}
	if two(11) > 23 || two(14) > 59 || two(17) > 59 {
		return false
	}
	fraction := s[len(layout) : len(s)-1]
	if len(fraction) == 0 {
		return true
	}
	if fraction[0] != '.' || len(fraction) == 1 {
		return false
	}
	for _, c := range fraction[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// longMonth is asked about days 29 to 31. 29 February is left to the library.
func longMonth(month, day byte) bool {
	switch month {
	case 2:
		return false
	case 4, 6, 9, 11:
		return day <= 30
	}
	return true
}

func at(data []byte, i int, c byte) bool { return i < len(data) && data[i] == c }

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}
