package events

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrIncompatible is wrapped by each rule that a changed schema breaks.
var ErrIncompatible = errors.New("incompatible change of a published schema")

// CompatibleSchema reports every way in which next breaks with published, joined. A change is compatible in both directions: programs of either version
// write what programs of the other one read, so that a service can be replaced while others run, and replaced back.
//
//   - A property stays, with its type, its rules and whether it is required. Its description is free.
//   - A new property is optional.
//   - A list of values grows only where it says "x-open-enum", and never shrinks: its readers know that they may meet a value that is new to them.
//
// Everything else is a new meaning, and a new meaning is a new type: "….v2". Schemas are compared in the dialect of the catalogue; a keyword
// outside of it is an error.
func CompatibleSchema(published, next []byte) error {
	was, err := parseSchema(published)
	if err != nil {
		return fmt.Errorf("published schema: %w", err)
	}
	is, err := parseSchema(next)
	if err != nil {
		return fmt.Errorf("changed schema: %w", err)
	}
	return errors.Join(compare("", was, is)...)
}

func compare(path string, was, is *schemaNode) []error {
	var errs []error
	broken := func(at, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrIncompatible, orRoot(at), fmt.Sprintf(format, args...)))
	}
	if was.Type != is.Type {
		broken(path, "type was %s, is %s", orNone(was.Type), orNone(is.Type))
		return errs // all below follows from it
	}
	for _, rule := range changedRules(was, is) {
		broken(path, "%s", rule)
	}
	for _, rule := range changedValues(was, is) {
		broken(path, "%s", rule)
	}
	for _, name := range slices.Sorted(slices.Values(was.Properties.names)) {
		at := path + "/" + name
		child, ok := is.Properties.byName[name]
		if !ok {
			broken(at, "was there, is removed or renamed: readers of either version miss it")
			continue
		}
		switch before, now := slices.Contains(was.Required, name), slices.Contains(is.Required, name); {
		case !before && now:
			broken(at, "was optional, is required: what is stored without it would be refused")
		case before && !now:
			broken(at, "was required, is optional: readers that run now count on it")
		}
		errs = append(errs, compare(at, was.Properties.byName[name], child)...)
	}
	for _, name := range is.Required {
		if _, ok := was.Properties.byName[name]; !ok {
			broken(path+"/"+name, "is new and required: what is stored does not have it; a new property is optional")
		}
	}
	if was.Items != nil && is.Items != nil {
		errs = append(errs, compare(path+"[]", was.Items, is.Items)...)
	} else if was.Items != is.Items {
		broken(path, "its items were described, or are now")
	}
	return errs
}

// changedRules names the rules of a value that differ. A stricter rule refuses what is stored, a looser one lets in what readers that run now refuse.
func changedRules(was, is *schemaNode) []string {
	var out []string
	differ := func(rule string, a, b any) {
		if a != b {
			out = append(out, fmt.Sprintf("%s was %v, is %v", rule, a, b))
		}
	}
	differ("minItems", was.MinItems, is.MinItems)
	differ("minLength", was.MinLength, is.MinLength)
	differ("maxItems", orUnset(was.MaxItems), orUnset(is.MaxItems))
	differ("maxLength", orUnset(was.MaxLength), orUnset(is.MaxLength))
	differ("minimum", orUnset(was.Minimum), orUnset(is.Minimum))
	differ("pattern", orNone(was.Pattern), orNone(is.Pattern))
	differ("format", orNone(was.Format), orNone(is.Format))
	return out
}

func changedValues(was, is *schemaNode) []string {
	var out []string
	if was.OpenEnum && !is.OpenEnum {
		out = append(out, "the list of values was open (x-open-enum), is closed")
	}
	if (len(was.Enum) == 0) != (len(is.Enum) == 0) {
		return append(out, "any value was allowed and now a list is, or the other way round")
	}
	for _, v := range was.Enum {
		if !slices.Contains(is.Enum, v) {
			out = append(out, fmt.Sprintf("value %q was allowed, is not", v))
		}
	}
	for _, v := range is.Enum {
		if !slices.Contains(was.Enum, v) && !was.OpenEnum {
			out = append(out, fmt.Sprintf("value %q is new in a closed list: readers that run now refuse it (x-open-enum must have been there before)", v))
		}
	}
	return out
}

func orUnset[T any](v *T) any {
	if v == nil {
		return "unset"
	}
	return *v
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func orRoot(path string) string {
	if strings.TrimSpace(path) == "" {
		return "/"
	}
	return path
}
