package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/wait"
)

// serveApps runs an agent that serves applications, and gives the address of their socket.
func serveApps(t *testing.T, s *signer) workloadapi.ClientOption {
	t.Helper()
	o := options(t, s, shortDir(t))
	o.WorkloadAPI = filepath.Join(filepath.Dir(o.SDS), "api.sock")
	run(t, o)
	return workloadapi.WithAddr("unix://" + o.WorkloadAPI)
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func x509Source(t *testing.T, at workloadapi.ClientOption) *workloadapi.X509Source {
	t.Helper()
	source, err := workloadapi.NewX509Source(soon(t), workloadapi.WithClientOptions(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	return source
}

// bundles hears of bundles.
type bundles struct {
	x509 chan *x509bundle.Set
	jwt  chan *jwtbundle.Set
	t    *testing.T
}

func (b bundles) OnX509BundlesUpdate(s *x509bundle.Set) { b.x509 <- s }
func (b bundles) OnJWTBundlesUpdate(s *jwtbundle.Set)   { b.jwt <- s }
func (b bundles) OnX509BundlesWatchError(err error)     { b.failed(err) }
func (b bundles) OnJWTBundlesWatchError(err error)      { b.failed(err) }
func (b bundles) failed(err error) {
	if status.Code(err) != codes.Canceled {
		b.t.Error("a watcher hears:", err)
	}
}

func TestApplicationsFollowARotationByTheWorkloadAPI(t *testing.T) {
	s := newSigner(t, "web", 2*time.Second)
	at := serveApps(t, s)
	source := x509Source(t, at)
	first := must(source.GetX509SVID())
	if first.ID != s.ID {
		t.Errorf("the identity is %s, want %s", first.ID, s.ID)
	}
	tokens, err := workloadapi.NewJWTSource(soon(t), workloadapi.WithClientOptions(at))
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()

	heard := bundles{make(chan *x509bundle.Set, 10), make(chan *jwtbundle.Set, 10), t}
	watching, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- workloadapi.WatchX509Bundles(watching, heard, at) }()
	go func() { ended <- workloadapi.WatchJWTBundles(watching, heard, at) }()
	defer func() {
		stop()
		if err := errors.Join(<-ended, <-ended); status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	if n := len(must((<-heard.x509).GetX509BundleForTrustDomain(domain())).X509Authorities()); n != 1 {
		t.Errorf("%d authorities at first", n)
	}
	if n := len(must((<-heard.jwt).GetJWTBundleForTrustDomain(domain())).JWTAuthorities()); n != 1 {
		t.Errorf("%d keys for tokens at first", n)
	}

	next := must(identity.NewRoot(domain(), time.Now(), 0))
	s.Trust(must(identity.Merge(s.CA().Bundle(), next.Bundle())))
	if n := len(must((<-heard.x509).GetX509BundleForTrustDomain(domain())).X509Authorities()); n != 2 {
		t.Errorf("%d authorities during the rotation", n)
	}
	if n := len(must((<-heard.jwt).GetJWTBundleForTrustDomain(domain())).JWTAuthorities()); n != 2 {
		t.Errorf("%d keys for tokens during the rotation", n)
	}
	s.Sign(next)
	wait.Until(t, patience, "a certificate by the new CA", func() bool {
		return must(source.GetX509SVID()).Certificates[0].CheckSignatureFrom(next.Certificate()) == nil
	})
	s.Trust(next.Bundle())
	if n := len(must((<-heard.x509).GetX509BundleForTrustDomain(domain())).X509Authorities()); n != 1 {
		t.Errorf("%d authorities at last", n)
	}
	<-heard.jwt
	token := must(tokens.FetchJWTSVID(soon(t), jwtsvid.Params{Audience: "api"}))
	bundle := next.Bundle().JWTBundle()
	if svid, err := jwtsvid.ParseAndValidate(token.Marshal(), bundle, []string{"api"}); err != nil || svid.ID != s.ID {
		t.Errorf("the token after the rotation: %v", err)
	}
}

func TestTwoApplicationsSpeakMutualTLSByTheirAgents(t *testing.T) {
	s := newSigner(t, "api", time.Hour)
	server, client := x509Source(t, serveApps(t, s)), x509Source(t, serveApps(t, s.Sharing("web")))
	allow := func(account string) tlsconfig.Authorizer { return tlsconfig.AuthorizeID(idOf(account)) }
	l, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(server, server, allow("web")))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c) //nolint:errcheck // the client says whether it got what it sent
			}()
		}
	}()
	talk := func(c *tls.Config) error {
		conn, err := tls.Dial("tcp", l.Addr().String(), c)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "hello"); err != nil {
			return err
		}
		got := make([]byte, 5)
		_, err = io.ReadFull(conn, got)
		return err
	}
	if err := talk(tlsconfig.MTLSClientConfig(client, client, allow("api"))); err != nil {
		t.Error("the right two:", err)
	}
	if err := talk(tlsconfig.MTLSClientConfig(client, client, allow("db"))); err == nil {
		t.Error("a client that wants db takes api")
	}
	if err := talk(tlsconfig.MTLSClientConfig(server, client, allow("api"))); err == nil {
		t.Error("a server that allows web takes api")
	}
	stranger := x509Source(t, serveApps(t, newSigner(t, "web", time.Hour)))
	if err := talk(tlsconfig.MTLSClientConfig(stranger, client, allow("api"))); err == nil {
		t.Error("a certificate of another CA is taken")
	}
}

func TestTokensAreForOneselfAndCostTheSignerLittle(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	c, err := workloadapi.New(t.Context(), serveApps(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first := must(c.FetchJWTSVID(soon(t), jwtsvid.Params{Audience: "api", ExtraAudiences: []string{"db"}}))
	s.SetAway(errAway)
	again := must(c.FetchJWTSVID(soon(t), jwtsvid.Params{Audience: "db", ExtraAudiences: []string{"api"}}))
	if again.Marshal() != first.Marshal() {
		t.Error("the same audiences cost another token")
	}
	if _, err := c.FetchJWTSVID(soon(t), jwtsvid.Params{Audience: "other"}); status.Code(err) != codes.Unavailable {
		t.Errorf("without the signer: %v", err)
	}
	if _, err := c.FetchJWTSVID(soon(t), jwtsvid.Params{Audience: "api", Subject: idOf("root")}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("somebody else's token: %v", err)
	}
	if _, err := c.FetchJWTSVID(soon(t), jwtsvid.Params{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no audience: %v", err)
	}
	if svid, err := c.ValidateJWTSVID(soon(t), first.Marshal(), "db"); err != nil || svid.ID != s.ID {
		t.Errorf("a good token is not valid: %v", err)
	}
	foreign := must(newSigner(t, "web", time.Hour).JWT(t.Context(), []string{"db"}))
	for name, q := range map[string][2]string{
		"another audience": {first.Marshal(), "other"}, "another CA's": {foreign, "db"}, "no token": {"x.y.z", "db"},
	} {
		if _, err := c.ValidateJWTSVID(soon(t), q[0], q[1]); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheWorkloadAPIWantsItsHeader(t *testing.T) {
	o := options(t, newSigner(t, "web", time.Hour), shortDir(t))
	o.WorkloadAPI = filepath.Join(filepath.Dir(o.SDS), "api.sock")
	run(t, o)
	conn, err := grpc.NewClient("unix:"+o.WorkloadAPI, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := workload.NewSpiffeWorkloadAPIClient(conn)
	for _, header := range [][]string{nil, {"workload.spiffe.io", "false"}, {"workload.spiffe.io", "true", "workload.spiffe.io", "false"}} {
		ctx := metadata.AppendToOutgoingContext(soon(t), header...)
		if _, err := api.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"api"}}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("header %q, a call: %v", header, err)
		}
		stream, err := api.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("header %q, a stream: %v", header, err)
		}
	}
}

func TestApplicationsWaitForTheFirstIdentity(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	s.SetAway(errAway)
	at := serveApps(t, s)
	got := make(chan spiffeid.ID, 1)
	go func() {
		svid, err := workloadapi.FetchX509SVID(soon(t), at)
		if err != nil {
			t.Error(err)
			got <- spiffeid.ID{}
			return
		}
		got <- svid.ID
	}()
	wait.Until(t, patience, "the signer is asked", func() bool { return len(s.Asked()) > 1 })
	select {
	case <-got:
		t.Fatal("an answer without an identity")
	default:
	}
	s.SetAway(nil)
	if id := <-got; id != s.ID {
		t.Errorf("got %v", id)
	}
}
