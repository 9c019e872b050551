package events

import (
	"bytes"
	"time"
)

// PlainObject is a type that [ReadPlain] can fill: it reads the value of each name that it knows into a field, and skips the others. All its names are in lower case.
type PlainObject interface {
	ReadPlain(r *PlainReader, name []byte)
}

// ReadPlain fills v from JSON as encoding/json would, in a fraction of the time, or says that it can't: then v may be filled in part, and encoding/json has the word. Each event is read by
// several services, and reading it by reflection is a tenth of what an order costs them.
//
// It can't where a text is escaped or is no valid UTF-8, where a number has a fraction or more than 18 digits, where there is a null, and where a name is not in plain lower case: encoding/json takes
// names in any. So whatever is rare or wrong is encoding/json's, with its rules and its errors; a fuzz test compares the two.
func ReadPlain(data []byte, v PlainObject) bool {
	r := PlainReader{data: data, at: skipSpace(data, 0)}
	r.Object(v)
	return !r.unsure && skipSpace(data, r.at) == len(data)
}

// PlainReader is where [ReadPlain] is in its text. Its methods read the value that comes next.
type PlainReader struct {
	data   []byte
	at     int
	depth  int
	unsure bool
}

// mostPlainDepth is how deep what is skipped may be nested.
const mostPlainDepth = 16

// Unsure gives up: encoding/json reads it all.
func (r *PlainReader) Unsure() { r.unsure = true }

// take is the next character, if it is c.
func (r *PlainReader) take(c byte) bool {
	r.at = skipSpace(r.data, r.at)
	if !at(r.data, r.at, c) {
		return false
	}
	r.at++
	return true
}

// must is take where nothing else can stand.
func (r *PlainReader) must(c byte) bool {
	if !r.take(c) {
		r.unsure = true
	}
	return !r.unsure
}

// Object reads an object.
func (r *PlainReader) Object(v PlainObject) {
	if r.depth++; r.depth > mostPlainDepth {
		r.unsure = true
	}
	defer func() { r.depth-- }()
	if !r.must('{') || r.take('}') {
		return
	}
	for {
		name, ok := r.raw()
		if !ok || !r.must(':') {
			return
		}
		v.ReadPlain(r, name[1:len(name)-1])
		if r.unsure || r.take('}') || !r.must(',') {
			return
		}
	}
}

// list reads a list, whose items item reads.
func (r *PlainReader) list(item func()) {
	if r.depth++; r.depth > mostPlainDepth {
		r.unsure = true
	}
	defer func() { r.depth-- }()
	if !r.must('[') || r.take(']') {
		return
	}
	for {
		if item(); r.unsure || r.take(']') || !r.must(',') {
			return
		}
	}
}

// PlainList reads a list of objects. A list that comes twice is left to encoding/json, which puts the second into the items of the first.
func PlainList[T any, P interface {
	*T
	PlainObject
}](r *PlainReader, into *[]T,
) {
	if *into != nil {
		r.unsure = true
		return
	}
	*into = make([]T, 0, r.expected())
	r.list(func() {
		*into = append(*into, *new(T))
		r.Object(P(&(*into)[len(*into)-1]))
	})
}

// expected is about how many objects the list that comes next has: most have as many as there are braces up to its end.
func (r *PlainReader) expected() int {
	const most = 64 // what somebody else wrote does not choose how much memory we take
	rest := r.data[min(r.at, len(r.data)):]
	if end := bytes.IndexByte(rest, ']'); end >= 0 {
		rest = rest[:end]
	}
	return min(bytes.Count(rest, []byte{'{'}), most)
}

// raw is the next text, with its quotes.
func (r *PlainReader) raw() ([]byte, bool) {
	start := skipSpace(r.data, r.at)
	end, _ := scanString(r.data, start)
	if end < 0 {
		r.unsure = true
		return nil, false
	}
	r.at = end
	return r.data[start:end], true
}

// Text reads a text.
func (r *PlainReader) Text(into *string) {
	if s, ok := r.raw(); ok {
		*into = string(s[1 : len(s)-1])
	}
}

// Time reads a time.
func (r *PlainReader) Time(into *time.Time) {
	if s, ok := r.raw(); ok && into.UnmarshalJSON(s) != nil {
		r.unsure = true
	}
}

// Int reads a whole number.
func (r *PlainReader) Int(into *int64) {
	negative := r.take('-')
	v := int64(r.digits()) //nolint:gosec // 18 of them
	if negative {
		v = -v
	}
	*into = v
}

// Uint reads a whole number that is not negative.
func (r *PlainReader) Uint(into *uint64) {
	r.at = skipSpace(r.data, r.at)
	*into = r.digits()
}

// digits reads up to 18 of them. A fraction or an exponent behind them stands where only a comma or an end may.
func (r *PlainReader) digits() uint64 {
	v, i := uint64(0), r.at
	for ; i < len(r.data) && r.data[i] >= '0' && r.data[i] <= '9'; i++ {
		v = v*10 + uint64(r.data[i]-'0')
	}
	if n := i - r.at; n == 0 || n > 18 || n > 1 && r.data[r.at] == '0' {
		r.unsure = true
	}
	r.at = i
	return v
}

// Skip passes over the value of a name that nobody knows.
func (r *PlainReader) Skip(name []byte) {
	for _, c := range name {
		if c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			r.unsure = true // it may be one that is known, written otherwise
			return
		}
	}
	r.skipValue()
}

func (r *PlainReader) skipValue() {
	r.at = skipSpace(r.data, r.at)
	if r.at >= len(r.data) {
		r.unsure = true
		return
	}
	switch r.data[r.at] {
	case '"':
		r.raw()
	case '{':
		r.Object(unknown{})
	case '[':
		r.list(r.skipValue)
	default:
		var v int64
		r.Int(&v)
	}
}

// unknown is an object of which nothing is wanted.
type unknown struct{}

// ReadPlain skips whatever it is called: names mean nothing here.
func (unknown) ReadPlain(r *PlainReader, _ []byte) { r.skipValue() }
