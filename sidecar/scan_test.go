package sidecar

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"
)

// scan looks for the token and for private keys, those of the agent in each form, in all that Envoy has printed, in its
// dumps and in all files of a directory.
func scan(t *testing.T, a *Agent, e *realEnvoy, dir string) {
	t.Helper()
	texts := map[string]string{"Envoy's log": e.log()}
	for _, path := range []string{"/config_dump?include_eds", "/certs", "/clusters", "/listeners", "/server_info", "/stats"} {
		texts[path] = must(e.admin(t.Context(), path))
	}
	if !bytes.Contains([]byte(texts["/config_dump?include_eds"]), []byte(`"name": "default"`)) {
		t.Error("the dump holds no secret at all, so looking at it shows nothing")
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || path == a.o.TokenFile {
			return err
		}
		text, err := os.ReadFile(path)
		texts[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range texts {
		noSecrets(t, a, where, text)
	}
}

func noSecrets(t testing.TB, a *Agent, where, text string) {
	t.Helper()
	c, _, _ := a.held.Current()
	der, pem := must(c.PKCS8()), must(c.KeyPEM())
	scalar := must(must(x509.ParsePKCS8PrivateKey(der)).(*ecdsa.PrivateKey).Bytes())
	for what, secret := range map[string][]byte{
		"the mark of a private key": []byte("PRIVATE KEY-----"),
		"the same in base64":        []byte(base64.StdEncoding.EncodeToString([]byte("-----BEGIN PRIVATE KEY-----\n")))[:36],
		"the key as PEM":            pem[30:80],
		"the key as DER":            der,
		"the key in base64":         []byte(base64.StdEncoding.EncodeToString(der)),
		"the key in hex":            []byte(hex.EncodeToString(der)),
		"the scalar":                scalar,
		"the scalar in base64":      []byte(base64.StdEncoding.EncodeToString(scalar)),
		"the scalar in hex":         []byte(hex.EncodeToString(scalar)),
		"the scalar as a number":    []byte(new(big.Int).SetBytes(scalar).String()),
		"the token":                 []byte(secretToken),
	} {
		if bytes.Contains([]byte(text), secret) {
			t.Errorf("%s holds %s", where, what)
		}
	}
}
