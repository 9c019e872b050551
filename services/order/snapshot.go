package order

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemark/tidemark/pkg/events/store"
)

// The listing's versions, for [store.ProjectionConfig].
const (
	// listingFold changes with what the table makes of an event.
	listingFold = 1
	// listingLayout changes with the encoding.
	listingLayout = 1
)

// The parts of the stored table: pages of texts, the keys, pages of rows. Rows name texts and keys, so they come last.
const (
	partTexts = "texts/"
	partKeys  = "keys"
	partRows  = "rows/"
)

// keys are what rows alone don't tell.
type keys struct {
	Rows    int               `json:"rows"`
	Early   map[string]int64  `json:"early,omitempty"`
	Foreign map[string]string `json:"foreign,omitempty"`
}

// Parts is the table as it is stored.
func (t *table) Parts() []store.Part {
	var parts []store.Part
	number := 0
	for chunk := range slices.Chunk(t.texts.list, pageSize) {
		parts = append(parts, store.Part{
			Name: partTexts + strconv.Itoa(number), Revision: uint64(len(chunk)), // texts are only ever added
			Encode: func() []byte { return encodeTexts(chunk) },
		})
		number++
	}
	parts = append(parts, store.Part{Name: partKeys, Revision: t.keys, Encode: t.encodeKeys})
	for i, p := range t.pages {
		parts = append(parts, store.Part{Name: partRows + strconv.Itoa(i), Revision: p.revision, Encode: func() []byte { return encodeRows(p.rows) }})
	}
	return parts
}

// Restore puts back a part.
func (t *table) Restore(name string, data []byte) error {
	switch {
	case name == partTexts+"0":
		t.texts = texts{numbers: make(map[string]uint32)}
		return t.texts.decode(data)
	case strings.HasPrefix(name, partTexts):
		return t.texts.decode(data)
	case name == partKeys:
		return t.decodeKeys(data)
	case strings.HasPrefix(name, partRows):
		return t.decodeRows(data)
	}
	return fmt.Errorf("part %q is not known", name)
}

func (t *table) encodeKeys() []byte {
	k := keys{Rows: t.count(), Early: make(map[string]int64, len(t.early)), Foreign: make(map[string]string, len(t.foreign))}
	for key, at := range t.early {
		k.Early[hex.EncodeToString(key[:])] = at
	}
	for key, id := range t.foreign {
		k.Foreign[hex.EncodeToString(key[:])] = id
	}
	data, err := json.Marshal(k) // sorts the keys of maps
	if err != nil {
		return nil // numbers and texts can be encoded
	}
	return data
}

func (t *table) decodeKeys(data []byte) error {
	var k keys
	if err := json.Unmarshal(data, &k); err != nil {
		return err
	}
	t.index = make(map[key]uint32, k.Rows)
	for text, at := range k.Early {
		key, err := decodeKey(text)
		if err != nil {
			return err
		}
		t.early[key] = at
	}
	for text, id := range k.Foreign {
		key, err := decodeKey(text)
		if err != nil {
			return err
		}
		t.foreign[key] = id
	}
	return nil
}

func decodeKey(text string) (k key, err error) {
	n, err := hex.Decode(k[:], []byte(text))
	if err != nil || n != len(k) {
		return k, fmt.Errorf("key %q: is not %d bytes in hexadecimal", text, len(k))
	}
	return k, nil
}

// rowSize is the length of an encoded row: fixed, little-endian, in the order of the struct.
const rowSize = 16 + 4*8 + 4*4 + 1

func encodeRows(rows []row) []byte {
	out := make([]byte, 0, len(rows)*rowSize)
	for i := range rows {
		w := &rows[i]
		out = append(out, w.id[:]...)
		for _, v := range [...]uint64{w.placedSeq, uint64(w.total), uint64(w.placedAt), uint64(w.updatedAt)} { //nolint:gosec // bits, not values
			out = binary.LittleEndian.AppendUint64(out, v)
		}
		for _, v := range [...]uint32{w.customer, w.currency, w.reason, w.version} {
			out = binary.LittleEndian.AppendUint32(out, v)
		}
		out = append(out, byte(w.status))
	}
	return out
}

func (t *table) decodeRows(blob []byte) error {
	if len(blob)%rowSize != 0 {
		return fmt.Errorf("%d bytes are no whole rows", len(blob))
	}
	long, short := binary.LittleEndian.Uint64, binary.LittleEndian.Uint32
	for b := range slices.Chunk(blob, rowSize) {
		w := row{
			placedSeq: long(b[16:]), total: int64(long(b[24:])), placedAt: int64(long(b[32:])), updatedAt: int64(long(b[40:])), //nolint:gosec // bits, not values
			customer: short(b[48:]), currency: short(b[52:]), reason: short(b[56:]), version: short(b[60:]), status: Status(b[64]),
		}
		copy(w.id[:], b)
		texts := uint32(len(t.texts.list)) //nolint:gosec // as rows
		if w.customer >= texts || w.currency >= texts || w.reason >= texts || w.status == None || w.status >= statuses {
			return errors.New("a row names what is not there")
		}
		t.insert(w)
	}
	return nil
}

// encodeTexts writes each text behind its length.
func encodeTexts(list []string) []byte {
	var out []byte
	for _, s := range list {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	return out
}

func (t *texts) decode(blob []byte) error {
	for len(blob) > 0 {
		n, width := binary.Uvarint(blob)
		if width <= 0 || n > uint64(len(blob)-width) { //nolint:gosec // a length is not negative, and width was just bounded
			return errors.New("texts end in the middle")
		}
		s := string(blob[width : width+int(n)]) //nolint:gosec // no longer than the blob
		t.numbers[s] = uint32(len(t.list))      //nolint:gosec // as rows
		t.list = append(t.list, s)
		blob = blob[width+int(n):] //nolint:gosec // as above
	}
	return nil
}
