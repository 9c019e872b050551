package events

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

//go:embed schemas/*.json
var schemaFiles embed.FS

const schemaBase = "https://tidemark.example/schemas/"

var (
	// ErrUnknownType is wrapped where an event's type is not in the catalogue.
	ErrUnknownType = errors.New("unknown event type")
	// ErrSchema is wrapped where a payload breaks the schema of its type.
	ErrSchema = errors.New("payload breaks its schema")
	// ErrRule is for handlers: they wrap it where a payload fits its schema and still can't be true, such as a total that is not the sum of its lines.
	ErrRule = errors.New("payload breaks a rule")
)

// SchemaURI is the dataschema attribute of an event type: its schema's address with the major and minor version.
func SchemaURI(eventType string) string { return schemaBase + eventType + "/1.0" }

// Registry holds the compiled JSON Schemas of the catalogue, and the steps from each old version of a type to its newest one. It is safe for use by many
// goroutines. Make one a process.
type Registry struct {
	schemas   map[string]*jsonschema.Schema
	prechecks map[string]*precheck
	raw       map[string][]byte
	names     map[string]bool   // the types without their versions
	upcasts   map[string]Upcast // by the type that they lead from
}

// NewRegistry compiles the embedded schemas. An error is a defect of the build, so programs end on it. Programs and tests with event types of
// their own give further schemas: files "<event type>.json" at the root of a file system. They may not replace one of the catalogue.
func NewRegistry(extra ...fs.FS) (*Registry, error) {
	catalogue, err := fs.Sub(schemaFiles, "schemas")
	if err != nil {
		return nil, fmt.Errorf("read schemas: %w", err)
	}
	r := &Registry{
		schemas:   make(map[string]*jsonschema.Schema),
		prechecks: make(map[string]*precheck),
		raw:       make(map[string][]byte),
		names:     make(map[string]bool),
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	for _, files := range append([]fs.FS{catalogue}, extra...) {
		if err := r.read(compiler, files); err != nil {
			return nil, err
		}
	}
	for eventType, raw := range r.raw {
		schema, err := compiler.Compile(SchemaURI(eventType))
		if err != nil {
			return nil, fmt.Errorf("compile schema of %s: %w", eventType, err)
		}
		r.schemas[eventType] = schema
		if check, err := newPrecheck(raw); err == nil {
			r.prechecks[eventType] = check // without one, the library judges every payload
		}
		if name, _, ok := splitVersion(eventType); ok {
			r.names[name] = true
		}
	}
	return r.Evolving(catalogueUpcasts()...)
}

func (r *Registry) read(compiler *jsonschema.Compiler, files fs.FS) error {
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		return fmt.Errorf("read schemas: %w", err)
	}
	for _, name := range names {
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			return fmt.Errorf("read schema %s: %w", name, err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			return fmt.Errorf("parse schema %s: %w", name, err)
		}
		eventType := strings.TrimSuffix(name, ".json")
		if err := compiler.AddResource(SchemaURI(eventType), doc); err != nil {
			return fmt.Errorf("add schema %s: %w", name, err)
		}
		r.raw[eventType] = raw
	}
	return nil
}

// Types are the event types of the catalogue, sorted.
func (r *Registry) Types() []string {
	types := make([]string, 0, len(r.raw))
	for t := range r.raw {
		types = append(types, t)
	}
	sort.Strings(types)
	return types
}

// Schema is the JSON Schema of a type, as it is embedded.
func (r *Registry) Schema(eventType string) ([]byte, bool) {
	raw, ok := r.raw[eventType]
	return raw, ok
}

// Validate checks the payload against the schema of the event's type. The error wraps [ErrUnknownType], [ErrUndecodable] or
// [ErrSchema] and names each field that breaks a rule.
func (r *Registry) Validate(e *Event) error {
	if r.prechecks[e.Type].sure(e.Data) {
		return nil
	}
	schema, ok := r.schemas[e.Type]
	if !ok {
		return fmt.Errorf("%w: %q", ErrUnknownType, e.Type)
	}
	return validate(schema, e)
}

func validate(schema *jsonschema.Schema, e *Event) error {
	decoder := json.NewDecoder(bytes.NewReader(e.Data))
	decoder.UseNumber() // an integer of 19 digits must not become a float
	var value any
	if err := decoder.Decode(&value); err != nil {
		return fmt.Errorf("%w: payload of %s is no JSON: %w", ErrUndecodable, e.Type, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: payload of %s goes on after its end", ErrUndecodable, e.Type)
	}
	err := schema.Validate(value)
	if err == nil {
		return nil
	}
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return fmt.Errorf("%w: %s: %s", ErrSchema, e.Type, strings.Join(flatten(invalid), "; "))
	}
	return fmt.Errorf("%w: %s: %w", ErrSchema, e.Type, err)
}

// flatten lists the leaves of a validation error as "/path: rule"; the tree above them repeats what they say.
func flatten(e *jsonschema.ValidationError) []string {
	english := message.NewPrinter(language.English)
	if len(e.Causes) == 0 {
		return []string{"/" + strings.Join(e.InstanceLocation, "/") + ": " + e.ErrorKind.LocalizedString(english)}
	}
	var out []string
	for _, cause := range e.Causes {
		out = append(out, flatten(cause)...)
	}
	return out
}
