package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tidemark/tidemark/internal/client"
)

// A stream that breaks off is taken up behind the last result, and one that can't be had is an error.
func TestWatchWindowsGoesOn(t *testing.T) {
	t.Parallel()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery+" "+r.Header.Get("Last-Event-ID"))
		switch len(asked) {
		case 1:
			fmt.Fprint(w, ": hello\n\nid: 7\ndata: {\"value\":1}\n\nid: 9\ndata: {\"value\":2}\n\nid: 11\ndata: {\"val")
		case 2:
			fmt.Fprint(w, "id: 11\ndata: {\"value\":3}\n\nevent: end\ndata: {\"reason\":\"slow\"}\n\n")
		case 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, "id: 12\ndata: {\"value\":4}\n\n")
		}
	}))
	defer server.Close()
	c, err := client.New(client.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	enough := errors.New("enough")
	var values []int64
	lost := 0
	err = c.WatchWindows(t.Context(), client.WindowFilter{Query: "q"}, func(w client.Window) error {
		values = append(values, w.Value)
		if len(values) == 4 {
			return enough
		}
		return nil
	}, func(error) { lost++ })
	if !errors.Is(err, enough) || fmt.Sprint(values) != "[1 2 3 4]" || lost != 3 {
		t.Errorf("%v, %v, broke off %d times", err, values, lost)
	}
	if want := "[query=q  query=q 9 query=q 11 query=q 11]"; fmt.Sprint(asked) != want {
		t.Errorf("asked for %v, want %s", asked, want)
	}
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	other, err := client.New(client.Config{URL: missing.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.WatchWindows(t.Context(), client.WindowFilter{}, func(client.Window) error { return nil }, nil); client.StatusOf(err) != http.StatusNotFound {
		t.Error(err)
	}
}
