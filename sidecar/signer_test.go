package sidecar

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/signers"
	"github.com/heddle-mesh/heddle/test/wait"
)

// signer is the CA of one agent.
type signer = signers.Signer

func newSigner(t testing.TB, account string, lifetime time.Duration) *signer {
	return signers.New(t, account, lifetime)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func domain() spiffeid.TrustDomain { return signers.Domain() }

func idOf(account string) spiffeid.ID { return must(identity.ID(domain(), "shop", account)) }

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

var errAway = errors.New("the signer is away")

// shortDir is a temporary directory for this user alone whose name leaves room for a unix socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir := must(os.MkdirTemp("", "hdl"))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func writeFile(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

const secretToken = "heddle-test-token-0123456789"

// options are those of an agent of s with everything that New asks for, in dir.
func options(t testing.TB, s *signer, dir string) Options {
	t.Helper()
	bundle, token := filepath.Join(dir, "bundle.json"), filepath.Join(dir, "token")
	writeFile(t, bundle, must(identity.MarshalBundle(s.Trusted())))
	writeFile(t, token, []byte(secretToken+"\n"))
	return Options{
		ID: s.ID, BundleFile: bundle, TokenFile: token, Connect: func(Trust) Signer { return s },
		SDS: filepath.Join(dir, "sds.sock"), Log: zerolog.New(zerolog.NewTestWriter(t)),
	}
}

// run runs an agent until the test ends. Its sockets are open when it returns.
func run(t testing.TB, o Options) *Agent {
	t.Helper()
	a := must(New(o))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error("agent:", err)
		}
	})
	for _, path := range []string{o.SDS, o.WorkloadAPI, o.Relay.Socket, strings.TrimPrefix(o.Ready, "unix:")} {
		wait.Until(t, patience, "a socket is open", func() bool {
			c, err := net.Dial("unix", path)
			return path == "" || err == nil && c.Close() == nil
		})
	}
	return a
}

func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}
