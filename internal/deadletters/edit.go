package deadletters

import (
	"context"
	"errors"
	"fmt"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// Note writes a remark into a letter's history.
func (d *Desk) Note(ctx context.Context, id, by, text string) (Letter, error) {
	if err := d.mayLetter(id); err != nil {
		return Letter{}, err
	}
	if _, err := d.store.Note(ctx, id, by, text); err != nil {
		return Letter{}, err
	}
	return d.letter(ctx, id)
}

func (d *Desk) mayLetter(id string) error {
	group, _ := deadletter.GroupOfID(id)
	return d.may(group)
}

// ErrPatch is wrapped where a JSON Patch can't be read or does not fit the payload.
var ErrPatch = errors.New("the patch can't be applied")

// Correction is a new payload: all of it, or what to change in the one that is there.
type Correction struct {
	Data  []byte // the whole payload
	Patch []byte // or a JSON Patch (RFC 6902)
}

// Edit corrects the payload that a replay uses. The event stays the same event: its headers can't be changed, and the original bytes stay in the letter. What does not
// fit the schema of the event's type is refused with an error that wraps [deadletter.ErrNotEditable].
func (d *Desk) Edit(ctx context.Context, id string, c Correction, by, why string) (Letter, error) {
	if err := d.mayLetter(id); err != nil {
		return Letter{}, err
	}
	data := c.Data
	if c.Patch != nil {
		l, err := d.store.Letter(ctx, id)
		if err != nil {
			return Letter{}, err
		}
		if data, err = d.patched(ctx, &l, c.Patch); err != nil {
			return Letter{}, fmt.Errorf("edit %s: %w", id, err)
		}
	}
	if _, err := d.store.Edit(ctx, d.registry, id, data, by, why); err != nil {
		return Letter{}, err
	}
	return d.letter(ctx, id)
}

func (d *Desk) patched(ctx context.Context, l *deadletter.Letter, text []byte) ([]byte, error) {
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no JSON Patch: %w", ErrPatch, err)
	}
	before, err := d.store.Payload(ctx, l)
	if err != nil {
		return nil, err
	}
	after, err := patch.Apply(before)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPatch, err)
	}
	return after, nil
}

func (d *Desk) letter(ctx context.Context, id string) (Letter, error) {
	l, err := d.store.Letter(ctx, id)
	if err != nil {
		return Letter{}, err
	}
	return viewOf(&l), nil
}
