package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
)

// readGiven reads a CA from PEM files, of which "-" is standard input: so its key need not be put on a disk of the pod
// in which the signer runs.
func readGiven(ctx context.Context, files []string, stdin io.Reader) (operator.Rotation, error) {
	var text []byte
	for _, name := range files {
		part, err := readFile(ctx, name, stdin)
		if err != nil {
			return operator.Rotation{}, fmt.Errorf("--to: %w", err)
		}
		text = append(append(text, part...), '\n')
	}
	return given(text)
}

// given sorts the blocks of a CA's PEM by what they are: the private key; the certificates that are self-signed, which are
// what the CA leads to; and the others, which are the chain, the CA's own first. A CA that is a root itself has no chain but
// its own certificate. What else a CA must be is for the signer to say.
func given(text []byte) (operator.Rotation, error) {
	var chain, roots, keys []*pem.Block
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return operator.Rotation{}, fmt.Errorf("--to: read certificate %d: %w", len(chain)+len(roots)+1, err)
			}
			if bytes.Equal(c.RawIssuer, c.RawSubject) {
				roots = append(roots, block)
			} else {
				chain = append(chain, block)
			}
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			keys = append(keys, block)
		}
	}
	switch {
	case len(chain)+len(roots) == 0:
		return operator.Rotation{}, errors.New("--to: there is no certificate in PEM; give the CA's own first, then those that it leads to up to the root")
	case len(keys) != 1:
		return operator.Rotation{}, fmt.Errorf("--to: there are %d private keys in PEM; give the CA's own, and no other", len(keys))
	}
	if len(chain) == 0 {
		chain, roots = roots[:1], roots[1:]
	}
	jwt, err := identity.NewJWTKey()
	if err != nil {
		return operator.Rotation{}, err
	}
	return operator.Rotation{Certificates: inPEM(chain), Key: inPEM(keys), Anchors: inPEM(roots), JWTKey: string(jwt)}, nil
}

func inPEM(blocks []*pem.Block) string {
	var out bytes.Buffer
	for _, b := range blocks {
		out.Write(pem.EncodeToMemory(b))
	}
	return out.String()
}
