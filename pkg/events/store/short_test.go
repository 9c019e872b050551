//go:build !long

package store_test

// modelChecks is how many histories the model test tries.
const modelChecks = "8"
