package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/identity"
)

// caFile is a PEM file of a given CA, and the flag that names it.
type caFile struct{ flag, path string }

// caFiles are those of a given CA. Anchors and jwtKey may have no path.
type caFiles struct{ chain, key, anchors, jwtKey caFile }

// read gives what is in them, with a new key for tokens if none is given.
func (f caFiles) read() (m identity.Material, err error) {
	for _, file := range []struct {
		caFile
		into *[]byte
	}{{f.chain, &m.Certificates}, {f.key, &m.Key}, {f.anchors, &m.Anchors}, {f.jwtKey, &m.JWTKey}} {
		if file.path == "" {
			continue
		}
		if *file.into, err = os.ReadFile(file.path); err != nil {
			return identity.Material{}, fmt.Errorf("--%s: %w", file.flag, err)
		}
	}
	if m.JWTKey == nil {
		m.JWTKey, err = identity.NewJWTKey()
	}
	return m, err
}

// caFlags name the CA that heddle serve begins with, where there never was one.
type caFlags struct{ chain, key, anchors, jwtKey string }

func (f *caFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.chain, "ca-chain", "", "begin with a given CA where there never was one: PEM file, its own certificate first, without the root (default: a new root is made)")
	flags.StringVar(&f.key, "ca-key", "", "PEM file of its private key, ECDSA on P-256 or P-384")
	flags.StringVar(&f.anchors, "ca-anchors", "", "PEM file of the roots that it leads to; none if its certificate is self-signed")
	flags.StringVar(&f.jwtKey, "ca-jwt-key", "", "PEM file of a key on P-256 that signs tokens for applications (default: a new one is made)")
}

// first is who makes the first CA. The files are read only then: they may be gone when there is one.
func (f *caFlags) first(td spiffeid.TrustDomain) (controlplane.FirstCA, error) {
	switch {
	case *f == caFlags{}:
		return controlplane.FirstCA{}, nil
	case f.chain == "" || f.key == "":
		return controlplane.FirstCA{}, errors.New("--ca-chain and --ca-key belong together, and --ca-anchors and --ca-jwt-key to them")
	}
	files := caFiles{caFile{"ca-chain", f.chain}, caFile{"ca-key", f.key}, caFile{"ca-anchors", f.anchors}, caFile{"ca-jwt-key", f.jwtKey}}
	return controlplane.FirstCA{From: f.chain, Make: func(now time.Time) (*identity.Authority, error) {
		m, err := files.read()
		if err != nil {
			return nil, err
		}
		return identity.LoadAuthority(td, m, now)
	}}, nil
}
