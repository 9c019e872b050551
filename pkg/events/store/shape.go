package store

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// shapeOf describes a type by what an encoding sees of it: kinds, field names, tags, and all of that of its parts. Two versions of a program that
// describe a state differently don't read each other's snapshots.
func shapeOf(t reflect.Type) string {
	var b strings.Builder
	describe(&b, t, make(map[reflect.Type]bool))
	return b.String()
}

func describe(b *strings.Builder, t reflect.Type, above map[reflect.Type]bool) {
	if above[t] || encodesItself(t) || t.Kind() == reflect.Interface {
		b.WriteString(t.String())
		return
	}
	above[t] = true
	defer delete(above, t)
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		b.WriteString(t.Kind().String() + " ")
		describe(b, t.Elem(), above)
	case reflect.Array:
		fmt.Fprintf(b, "[%d]", t.Len())
		describe(b, t.Elem(), above)
	case reflect.Map:
		b.WriteString("map ")
		describe(b, t.Key(), above)
		b.WriteString(" to ")
		describe(b, t.Elem(), above)
	case reflect.Struct:
		b.WriteString("{")
		for field := range t.Fields() {
			fmt.Fprintf(b, "%s %q ", field.Name, field.Tag)
			describe(b, field.Type, above)
			b.WriteString("; ")
		}
		b.WriteString("}")
	default:
		b.WriteString(t.Kind().String())
	}
}

// encodesItself reports whether a type says how it is encoded: its fields tell nothing then.
func encodesItself(t reflect.Type) bool {
	for _, own := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.BinaryMarshaler]()} {
		if t.Implements(own) || reflect.PointerTo(t).Implements(own) {
			return true
		}
	}
	return false
}
