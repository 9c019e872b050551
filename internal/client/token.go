package client

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Token says what token a request carries; an empty one is none. It is asked for each request, so that a token can be replaced while a program runs.
type Token func() (string, error)

// ErrToken is wrapped where a token can't be read, or be sent.
var ErrToken = errors.New("token")

// FixedToken is a token that does not change.
func FixedToken(token string) Token {
	token = strings.TrimSpace(token)
	return func() (string, error) { return token, checkToken(token) }
}

// tokenAge is how long a token that was read from a file is used before the file is looked at again.
const tokenAge = 10 * time.Second

// FileToken reads the token from a file, again and again: whoever renews it writes the file anew.
func FileToken(path string) Token {
	var mu sync.Mutex
	var token string
	var read time.Time
	return func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if !read.IsZero() && time.Since(read) < tokenAge {
			return token, nil
		}
		raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrToken, err)
		}
		next := strings.TrimSpace(string(raw))
		if err := checkToken(next); err != nil {
			return "", fmt.Errorf("%w (in %s)", err, path)
		}
		token, read = next, time.Now()
		return token, nil
	}
}

// checkToken keeps out what can't stand in a header. The error does not show it: it is somebody's secret, be it misspelt or not.
func checkToken(token string) error {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%w: holds blanks or characters that no token has", ErrToken)
	}
	return nil
}
