package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"
)

// selfSigned makes a certificate for nobody in particular, as applications do of which only the kubelet asks HTTPS.
func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign our own certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"http/1.1"}}, nil
}

// certificates gives the chain that a server shows to whoever begins a handshake as sidecars do, as PEM.
func certificates(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("certificates", flag.ContinueOnError)
	of := flags.String("of", "", "address and port of the server")
	protocol := flags.String("alpn", "heddle-http", "the protocol to offer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", *of)
	if err != nil {
		return err
	}
	defer raw.Close()
	var shown [][]byte
	conn := tls.Client(raw, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{*protocol}, // whoever reads the chain judges it
		VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error { shown = chain; return nil },
	})
	// A server that wants a certificate of its client has shown its own by then.
	if err := conn.HandshakeContext(ctx); err != nil && len(shown) == 0 {
		return fmt.Errorf("shake hands with %s: %w", *of, err)
	}
	for _, der := range shown {
		if err := pem.Encode(out, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return err
		}
	}
	return nil
}
