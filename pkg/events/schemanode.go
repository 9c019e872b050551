package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// schemaNode is the part of JSON Schema 2020-12 that the catalogue is written in.
type schemaNode struct {
	Schema      string           `json:"$schema"`
	Description string           `json:"description"`
	Type        string           `json:"type"`
	Properties  schemaProperties `json:"properties"`
	Required    []string         `json:"required"`
	Items       *schemaNode      `json:"items"`
	MinItems    int              `json:"minItems"`
	MaxItems    *int             `json:"maxItems"`
	MinLength   int              `json:"minLength"`
	MaxLength   *int             `json:"maxLength"`
	Minimum     *int64           `json:"minimum"`
	Enum        []string         `json:"enum"`
	OpenEnum    bool             `json:"x-open-enum"`
	Pattern     string           `json:"pattern"`
	Format      string           `json:"format"`
}

// schemaProperties are the properties of an object, which keep the order of the file.
type schemaProperties struct {
	names  []string
	byName map[string]*schemaNode
}

// UnmarshalJSON is as strict as parseSchema: a decoder tells its strictness to no method.
func (p *schemaProperties) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return errors.Join(errors.New("properties: must be an object"), err)
	}
	p.names, p.byName = nil, make(map[string]*schemaNode)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // a name is a string
		if _, twice := p.byName[name]; twice {
			return fmt.Errorf("property %q: is there more than once", name)
		}
		n := &schemaNode{}
		if err := decoder.Decode(n); err != nil {
			return fmt.Errorf("property %q: %w", name, err)
		}
		p.names, p.byName[name] = append(p.names, name), n
	}
	return nil
}

// parseSchema reads a schema strictly: a keyword that is not known must not be overlooked.
func parseSchema(raw []byte) (*schemaNode, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	var n schemaNode
	if err := decoder.Decode(&n); err != nil {
		return nil, fmt.Errorf("outside of the dialect that can be compared: %w", err)
	}
	return &n, nil
}
