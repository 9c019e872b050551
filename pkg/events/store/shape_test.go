package store

import (
	"reflect"
	"testing"
	"time"
)

// Types that an encoding sees differently have different shapes, and nothing else tells them apart.
func TestShapeOf(t *testing.T) {
	t.Parallel()
	type money int64
	type tree struct{ Children []*tree }
	shapes := make(map[string]reflect.Type)
	for _, v := range []any{
		int64(0), int32(0), "", true, 0.5, []int{}, [2]int{}, [3]int{}, map[string]int{}, map[int]string{}, new(int), time.Time{}, time.Second, any(nil),
		struct{ A int }{}, struct{ B int }{}, struct{ a int }{}, struct{ A string }{}, struct {
			A int `json:"b"`
		}{}, struct{ A, B int }{}, struct{ B, A int }{}, struct{ A []int }{}, tree{}, []tree{},
		struct{ X struct{ A int } }{}, struct{ X struct{ A uint } }{},
	} {
		of := reflect.TypeOf(&v).Elem()
		if v != nil {
			of = reflect.TypeOf(v)
		}
		shape := shapeOf(of)
		if other, taken := shapes[shape]; taken && of != reflect.TypeFor[time.Duration]() { // a duration is an int64
			t.Errorf("%s and %s have the same shape: %s", other, of, shape)
		}
		shapes[shape] = of
	}
	if shapeOf(reflect.TypeFor[money]()) != shapeOf(reflect.TypeFor[int64]()) {
		t.Error("a name that the encoding does not see changes the shape")
	}
}
