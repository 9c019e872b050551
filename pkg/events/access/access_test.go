package access_test

import (
	"testing"

	"github.com/tidemark/tidemark/pkg/events/access"
)

func TestMay(t *testing.T) {
	t.Parallel()
	reader := access.Caller{Subject: "r", Scopes: []string{access.OrdersRead}}
	both := access.Caller{Subject: "b", Scopes: []string{access.OrdersRead, access.StockWrite}}
	nobody := access.Caller{Subject: "n"}
	for _, c := range []struct {
		name   string
		need   access.Requirement
		caller access.Caller
		want   bool
	}{
		{"the scope", access.Any(access.OrdersRead), reader, true},
		{"one of two", access.Any(access.Operator, access.OrdersRead), reader, true},
		{"another scope", access.Any(access.OrdersWrite), reader, false},
		{"a scope is a whole word", access.Any("orders"), reader, false},
		{"no scope", access.Any(access.OrdersRead), nobody, false},
		{"any token", access.AnyToken(), nobody, true},
		{"both together", access.Requirement{{access.Scheme: {access.OrdersRead, access.StockWrite}}}, both, true},
		{"one of what is asked together", access.Requirement{{access.Scheme: {access.OrdersRead, access.StockWrite}}}, reader, false},
		{"nothing is declared", nil, both, false},
		{"no alternative", access.Requirement{}, both, false},
		{"a scheme that nobody checks", access.Requirement{{"basic": {}}}, both, false},
		{"and one beside ours", access.Requirement{{"basic": {}, access.Scheme: {}}}, both, false},
		{"OpenAPI's way to say: no token needed", access.Requirement{{}}, both, false},
	} {
		if got := c.caller.May(c.need); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestCallerOfARequest(t *testing.T) {
	t.Parallel()
	if got := access.From(t.Context()).Subject; got != access.Local {
		t.Errorf("where nobody has said who calls: %q", got)
	}
	if got := access.From(access.With(t.Context(), access.Caller{Subject: "ann"})).Subject; got != "ann" {
		t.Errorf("%q", got)
	}
}
