package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/tidemark/tidemark/internal/auth"
	"github.com/tidemark/tidemark/internal/program"
)

// tokenCmd makes what an identity provider would: enough to try tokens out, to test, and for a demonstration in containers. It is no identity provider: whoever can read the
// key can be anybody, and a token that was issued can't be taken back before it expires.
type tokenCmd struct {
	Keys  tokenKeysCmd  `cmd:"" help:"Make a signing key and the public keys that servers check with (--jwks)."`
	Issue tokenIssueCmd `cmd:"" help:"Print a token."`
}

type tokenKeysCmd struct {
	Keys   string `required:"" help:"Directory of the keys; made if it is not there."`
	Public string `help:"Directory of the public keys (default: the same)."`
	Rotate bool   `help:"Make a new key and sign with it; what older ones have signed stays good until it expires."`
}

// Run makes the keys, unless they are there.
func (c *tokenKeysCmd) Run(a *app) error {
	public := cmp.Or(c.Public, c.Keys)
	id, err := auth.MakeKeys(c.Keys, public, c.Rotate)
	if err != nil {
		return fmt.Errorf("token keys: %w", err)
	}
	fmt.Fprintf(a.stdout, "key     %s\npublic  %s: give it to servers, --jwks\nsecret  %s: it makes every token; for demonstrations and tests, not for production\n",
		id, filepath.Join(public, auth.KeysFile), filepath.Join(c.Keys, auth.SigningKeyFile))
	return nil
}

type tokenIssueCmd struct {
	Keys     string        `required:"" help:"Directory of the keys."`
	Subject  string        `required:"" help:"Who the token speaks for."`
	Scope    []string      `required:"" help:"What it opens, with commas: orders:write, orders:read, stock:write, clicks:write, operator."`
	For      time.Duration `default:"1h" help:"How long it is good."`
	Issuer   string        `help:"Its issuer (iss), where servers ask for one (--jwt-issuer)."`
	Audience []string      `help:"Its audience (aud), where servers ask for one (--jwt-audience)."`
	Out      string        `help:"File to write it to (mode 0600), instead of printing it."`
}

// Run prints the token and nothing else, so that it can be put into a variable or a file.
func (c *tokenIssueCmd) Run(a *app) error {
	order := auth.Order{Subject: c.Subject, Scopes: c.Scope, For: c.For, Issuer: c.Issuer, Audience: c.Audience}
	if err := order.Validate(); err != nil {
		return errors.Join(program.ErrUsage, err)
	}
	token, err := auth.Issue(c.Keys, order)
	if err != nil {
		return err
	}
	if c.Out != "" {
		return auth.WriteToken(c.Out, token)
	}
	_, err = fmt.Fprintln(a.stdout, token)
	return err
}
