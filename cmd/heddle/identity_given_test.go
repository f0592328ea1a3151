package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pemOf gives a CA's certificate and key, signed by another one or by itself.
func pemOf(t *testing.T, name string, by *x509.Certificate, byKey *ecdsa.PrivateKey) (certificate *x509.Certificate, key *ecdsa.PrivateKey, certificatePEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	if by == nil {
		by, byKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	if certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func TestAGivenCAIsSortedOutWhateverTheOrderOfItsParts(t *testing.T) {
	root, rootKey, rootPEM, rootKeyPEM := pemOf(t, "root", nil, nil)
	middle, middleKey, middlePEM, _ := pemOf(t, "middle", root, rootKey)
	_, _, caPEM, keyPEM := pemOf(t, "ca", middle, middleKey)
	for order, text := range map[string]string{
		"as documented": caPEM + middlePEM + keyPEM + rootPEM,
		"the key first": keyPEM + rootPEM + caPEM + middlePEM,
		"with words":    "subject=ca\n" + rootPEM + caPEM + "\n\n" + middlePEM + "the key:\n" + keyPEM,
	} {
		got, err := given([]byte(text))
		if err != nil || got.Certificates != caPEM+middlePEM || got.Key != keyPEM || got.Anchors != rootPEM || got.JWTKey == "" {
			t.Errorf("%s: %v, certificates %q, anchors %q", order, err, got.Certificates, got.Anchors)
		}
	}
	if got, err := given([]byte(rootKeyPEM + rootPEM)); err != nil || got.Certificates != rootPEM || got.Anchors != "" || got.Key != rootKeyPEM {
		t.Errorf("a root by itself: %v, certificates %q, anchors %q", err, got.Certificates, got.Anchors)
	}
	for what, text := range map[string]string{
		"there is no certificate": keyPEM, "there are 0 private keys": caPEM + rootPEM, "there are 2 private keys": caPEM + keyPEM + rootKeyPEM,
		"read certificate 2": caPEM + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no")})) + keyPEM,
	} {
		if _, err := given([]byte(text)); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want an error that says %q: %v", what, err)
		}
	}
}

func TestAGivenCAIsReadFromFilesAndFromStandardInput(t *testing.T) {
	_, _, caPEM, keyPEM := pemOf(t, "ca", nil, nil)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(strings.TrimSuffix(caPEM, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readGiven(t.Context(), []string{file, "-"}, strings.NewReader(keyPEM))
	if err != nil || got.Certificates != caPEM || got.Key != keyPEM {
		t.Errorf("%v, certificates %q", err, got.Certificates)
	}
}
