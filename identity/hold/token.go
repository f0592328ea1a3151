package hold

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
)

// Token is something to show to the signer that cannot be printed, as a private key cannot. Its zero value is none.
type Token struct{ value func() string }

// NewToken makes one.
func NewToken(value string) Token { return Token{func() string { return value }} }

// IsZero says that there is none.
func (t Token) IsZero() bool { return t.value == nil || t.value() == "" }

// Equal says that both are the same, in a time that says nothing of where they differ.
func (t Token) Equal(other Token) bool {
	return !t.IsZero() && !other.IsZero() && subtle.ConstantTimeCompare([]byte(t.value()), []byte(other.value())) == 1
}

// Format prints the same for every verb.
func (Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(token)") } // fmt ignores it as well

// MarshalText keeps it out of JSON and YAML.
func (Token) MarshalText() ([]byte, error) { return nil, errors.New("a token is not written down") }
