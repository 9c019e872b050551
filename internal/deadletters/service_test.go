package deadletters

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

// TestDeskOfAService: it shows the letters of all groups, and acts on those of its own: for the others its user of the broker has no right, and the broker would not answer.
func TestDeskOfAService(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.service = events.ServiceNotify
	own, other := o.park(events.GroupNotify, "o1"), o.park(events.GroupInventory, "o2")
	if status, body := o.ask(http.MethodGet, root, ""); status != http.StatusOK || len(body["items"].([]any)) != 2 {
		t.Errorf("list: %d %v", status, body)
	}
	note, edit := `{"by":"ann","note":"asked"}`, `{"by":"ann","why":"typo","payload":{"order_id":"o1","customer_id":"c"}}`
	job := func(id string) string { return `{"kind":"discard","by":"ann","why":"w","ids":["` + id + `"]}` }
	for _, c := range []struct{ method, own, other, body, otherBody string }{
		{http.MethodPost, "/" + own.ID + "/notes", "/" + other.ID + "/notes", note, note},
		{http.MethodPut, "/" + own.ID + "/payload", "/" + other.ID + "/payload", edit, edit},
		{http.MethodPost, "/jobs", "/jobs", job(own.ID), job(other.ID)},
	} {
		if status, body := o.ask(c.method, root+c.own, c.body); status >= 400 {
			t.Errorf("%s %s: %d %v", c.method, c.own, status, body)
		}
		if status, body := o.ask(c.method, root+c.other, c.otherBody); status != http.StatusForbidden || !strings.Contains(body["detail"].(string), "inventory") {
			t.Errorf("%s %s: %d %v", c.method, c.other, status, body)
		}
	}
}
