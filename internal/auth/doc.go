// Package auth checks the bearer tokens of the HTTP API.
//
// A token is a JWT that somebody else has signed: an identity provider, or `tidemark token issue` for demonstrations and tests. We hold public keys only, in a JWKS that
// lies in a file or is fetched from a URL ([Keys]), so what leaks from here makes no tokens. A [Verifier] says who calls and with which scopes, or a [Refusal].
//
// What a token can't do, since each has been done to somebody: choose its algorithm (the list is ours, and none of it is symmetric), bring its own key or say where keys
// are (jwk, jku, x5c and x5u of its header are not looked at), live for ever (exp is required), make us fetch keys for each request (one attempt in ten seconds), or be
// long enough to cost anything.
//
// Signatures and the forms of keys are go-jose's. Where the keys come from and when they are read again is here.
package auth
