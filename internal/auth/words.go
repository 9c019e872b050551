package auth

import (
	"encoding/json"
	"errors"
	"strings"
)

// words is a list that is written as one string with blanks or as an array: providers do both.
type words []string

var errWords = errors.New("must be a string or an array of strings")

// UnmarshalJSON reads either.
func (w *words) UnmarshalJSON(raw []byte) error {
	var one string
	if err := json.Unmarshal(raw, &one); err == nil {
		*w = strings.Fields(one)
		return nil
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		return errWords
	}
	*w = many
	return nil
}
