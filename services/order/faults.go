package order

import (
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// location is a field of a request: of the body, or of one of its lines. It becomes text only where something is wrong with it.
type location struct {
	line  int // from 0; inBody for the body's own fields
	field string
}

const inBody = -1

func body(field string) location             { return location{inBody, field} }
func ofLine(line int, field string) location { return location{line, field} }

func (l location) String() string {
	s := "body"
	if l.line != inBody {
		s += ".lines[" + strconv.Itoa(l.line) + "]"
	}
	if l.field != "" {
		s += "." + truncate(l.field, maxShown)
	}
	return s
}

// faults collects what is wrong with a request, each with its place, such as body.lines[3].quantity.
type faults struct {
	list []error
	at   map[string]bool
}

// maxFaults bounds the answer to a body that is made of mistakes: three a line, and some.
const maxFaults = 3*maxLines + 100

func (f *faults) add(where location, message string, value any) {
	if len(f.list) >= maxFaults {
		return
	}
	at := where.String()
	if f.at == nil {
		f.at = make(map[string]bool)
	}
	f.at[at] = true
	f.list = append(f.list, &huma.ErrorDetail{Location: at, Message: message, Value: value})
}

// missing reports a required field that is not there, unless something of the wrong type stood there and was reported.
func (f *faults) missing(where location, message string) {
	if f.at[where.String()] {
		return
	}
	f.add(where, message, nil)
}

// header reports a header of the request.
func (f *faults) header(name, message string) {
	f.list = append(f.list, &huma.ErrorDetail{Location: "header." + name, Message: message})
}
