// Package arch holds the architecture of Tidemark by tests. It has no code of its own.
//
// Each rule says in its failure why it is there. Who has a better reason changes the rule, in the same commit, and says so. Each rule also has
// a small bad example that it must find, so that a rule that finds nothing is known to look.
//
// The rules about imports read "go list"; the rules about source read the syntax trees of every Go file of the module.
package arch
