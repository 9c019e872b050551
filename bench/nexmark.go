package main

type nexmarkCmd struct {
	Digests digestsCmd `cmd:"" help:"Compute what is right, and store its digests."`
}
