// Package secrets looks for private keys and tokens where there must be none: in what programs print, in dumps, metrics
// and files. A test hands over every text that its mesh leaves behind:
//
//	scan := secrets.New(t)
//	scan.KnowKeys(caFile)             // the keys that it can lay its hands on
//	scan.Look("log of web-1", log)    // fails the test if there is one in it
//	scan.Log("the agent of web-1")    // a logger that does so at the test's end; look.go has more of that kind
//
// Keys are found in two ways. By their form: the marks of PEM, the beginnings of the DER that Go and OpenSSL write, the
// private member of a JWK, join tokens and JWTs; all but the last two also in base64 and hex, wherever in a longer text
// the encoding begins. And, for those that the test knows, by their value: as DER and as the bare number, in every
// encoding. A key that is known to nobody and is printed as a bare number is not found.
package secrets

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// finding is something to look for, in one encoding.
type finding struct {
	what string
	text []byte
}

// Scan looks for secrets. It is safe for concurrent use.
type Scan struct {
	t        testing.TB
	patterns []pattern

	mu    sync.Mutex
	known []finding
}

type pattern struct {
	what string
	form *regexp.Regexp
}

// New gives a scan that knows the forms of secrets, and none by its value.
func New(t testing.TB) *Scan {
	s := &Scan{t: t, patterns: []pattern{
		{"a join token", regexp.MustCompile(`heddle-join\.[0-9a-f]{16}\.[A-Za-z0-9_-]{20,}`)},
		{"a JWT", regexp.MustCompile(`eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}`)},
		{"the private member of a JWK", regexp.MustCompile(`"d\\?"\s*:\s*\\?"[A-Za-z0-9_-]{40,}`)},
	}}
	for _, mark := range marks() {
		s.know(mark.what, mark.text)
	}
	return s
}

// marks are what every private key of a kind has in common and no public one has.
func marks() []finding {
	unhex := func(what, text string) finding {
		b, err := hex.DecodeString(text)
		if err != nil {
			panic(err) // a constant of this file
		}
		return finding{what, b}
	}
	return []finding{
		{"the mark of a PEM private key", []byte("PRIVATE KEY-----")},
		// RFC 5958 around RFC 5915: the curve's OID, then an OCTET STRING with version 1 and the number.
		unhex("a PKCS #8 key on P-256", "2a8648ce3d030107046d306b0201010420"),
		unhex("a PKCS #8 key on P-384", "2b8104002204819e30819b0201010430"),
		unhex("a PKCS #8 Ed25519 key", "302e020100300506032b657004220420"),
		unhex("a PKCS #8 RSA key", "300d06092a864886f70d01010105000482"),
	}
}

// know looks for a secret in each of its encodings from now on.
func (s *Scan) know(what string, secret []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, encodings(what, secret)...)
}

// encodings are a secret as it is, in hex, and in base64 at each of the three places at which it can begin in a group of
// three bytes, without the characters at its ends that neighbours have a part in.
func encodings(what string, secret []byte) []finding {
	lower := hex.EncodeToString(secret)
	all := []finding{
		{what, secret}, {what + " in hex", []byte(lower)}, {what + " in hex", []byte(strings.ToUpper(lower))},
	}
	for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			text := alphabet.EncodeToString(append(make([]byte, before), secret...))
			first := []int{0, 2, 3}[before]
			last := (before + len(secret)) * 8 / 6 // whole characters
			all = append(all, finding{what + " in base64", []byte(text[first:last])})
		}
	}
	return all
}

// Know looks for a value from now on, such as a token. It must be long enough not to be met by chance.
func (s *Scan) Know(what string, secret []byte) {
	if len(secret) < 16 {
		s.t.Errorf("look for %s: it has %d bytes only", what, len(secret))
		return
	}
	s.know(what, secret)
}

// KnowKeys looks from now on for all keys that stand as PEM in a text, which may be JSON, and says how many there are.
func (s *Scan) KnowKeys(text []byte) int {
	n := 0
	for rest := bytes.ReplaceAll(text, []byte(`\n`), []byte("\n")); ; {
		i := bytes.Index(rest, []byte("-----BEGIN "))
		if i < 0 {
			return n
		}
		block, after := pem.Decode(rest[i:])
		if block == nil {
			rest = rest[i+1:]
			continue
		}
		rest = after
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		n++
		s.know("a key that the test knows", block.Bytes)
		if key, ok := parse(block.Bytes).(*ecdsa.PrivateKey); ok {
			s.knowNumber(key)
		}
	}
}

func (s *Scan) knowNumber(key *ecdsa.PrivateKey) {
	scalar, err := key.Bytes()
	if err != nil {
		s.t.Errorf("look for a key: %v", err)
		return
	}
	s.know("the number of a key that the test knows", scalar)
	s.know("the number of a key that the test knows, as text", []byte(new(big.Int).SetBytes(scalar).String()))
}

func parse(der []byte) any {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	return nil
}

// Find says which secrets a text holds, not the secrets themselves.
func (s *Scan) Find(text []byte) []string {
	s.mu.Lock()
	known := s.known
	s.mu.Unlock()
	var found []string
	for _, k := range known {
		if at := bytes.Index(text, k.text); at >= 0 {
			found = append(found, fmt.Sprintf("%s, at byte %d", k.what, at))
		}
	}
	for _, p := range s.patterns {
		if at := p.form.FindIndex(text); at != nil {
			found = append(found, fmt.Sprintf("%s, at byte %d", p.what, at[0]))
		}
	}
	return found
}

// Look fails the test for each secret in a text, without printing it.
func (s *Scan) Look(where string, text []byte) {
	s.t.Helper()
	for _, what := range s.Find(text) {
		s.t.Errorf("%s holds %s", where, what)
	}
}
