// Package access is who may call what of the HTTP API: the scopes that a token can carry, and the caller that a request comes from.
//
// Each operation of a service declares the scopes it takes ([Any]). The program that serves it checks the token and puts the caller into the context; the service asks
// [From] and never sees a token. So a service has no code that could forget to check, and can be tested without tokens.
package access

import (
	"context"
	"slices"
	"time"
)

// The scopes. An operation names those that open it; one of them is enough.
const (
	OrdersWrite = "orders:write" // place orders, cancel any
	OrdersRead  = "orders:read"  // read all orders, what came of them, stock, and what analytics counts
	StockWrite  = "stock:write"  // receive stock, and read it
	ClicksWrite = "clicks:write" // hand in clicks, nothing else: for what runs in the hands of others
	Operator    = "operator"     // read everything, dead letters and mails among it; repair, rebuild, backfill; never places an order
)

// Scopes are all that there are, in the order in which the documentation lists them.
func Scopes() []string { return []string{OrdersWrite, OrdersRead, StockWrite, ClicksWrite, Operator} }

// Scheme is the name of the tokens in the OpenAPI document.
const Scheme = "token"

// Requirement is what an operation asks of its caller, in OpenAPI's form: alternatives, each the scopes by scheme that it takes together.
type Requirement = []map[string][]string

// Any lets in who has one of the scopes.
func Any(scopes ...string) Requirement {
	out := make(Requirement, len(scopes))
	for i, s := range scopes {
		out[i] = map[string][]string{Scheme: {s}}
	}
	return out
}

// AnyToken lets in everybody whose token is good, whatever its scopes.
func AnyToken() Requirement { return Requirement{{Scheme: {}}} }

// Caller is who sent a request.
type Caller struct {
	Subject string    // of the token; [Local] where there are no tokens
	Scopes  []string  // of the token
	Expires time.Time // of the token; zero where there are no tokens
}

// Local is the subject of every caller where there are no tokens, which is on the machine itself only.
const Local = "local"

// May reports whether the caller meets a requirement. One that asks for nothing known lets nobody in.
func (c Caller) May(need Requirement) bool {
	return slices.ContainsFunc(need, func(together map[string][]string) bool {
		scopes, ok := together[Scheme]
		return ok && len(together) == 1 && !slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(c.Scopes, s) })
	})
}

type key struct{}

// With is the context of a request from the caller.
func With(ctx context.Context, c Caller) context.Context { return context.WithValue(ctx, key{}, c) }

// From is the caller of a request, [Local] where nothing has said who it is.
func From(ctx context.Context) Caller {
	if c, ok := ctx.Value(key{}).(Caller); ok {
		return c
	}
	return Caller{Subject: Local}
}
