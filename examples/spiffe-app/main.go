// Command spiffe-app is an application that has its pod's identity itself, by the SPIFFE Workload API: it serves, and
// calls others, by mutual TLS, without a sidecar in between. It never sees a file with a key, and every renewal and
// rotation reaches it by itself.
//
//	SPIFFE_ENDPOINT_SOCKET=unix:///run/heddle/api.sock spiffe-app --listen :8443 --allow spiffe://cluster.local/ns/shop/sa/web
//	SPIFFE_ENDPOINT_SOCKET=unix:///run/heddle/api.sock spiffe-app --call https://10.1.0.7:8443/ --expect spiffe://cluster.local/ns/shop/sa/catalog
//
// All that is about SPIFFE is in identity.go; the rest is any HTTP server and client.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "spiffe-app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("spiffe-app", flag.ContinueOnError)
	listen := flags.String("listen", "", "serve on this address")
	allow := flags.String("allow", "", "the SPIFFE ID that may call")
	call := flags.String("call", "", "call this URL once")
	expect := flags.String("expect", "", "the SPIFFE ID that must answer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	who := *allow
	if *call != "" {
		who = *expect
	}
	peer, err := spiffeid.FromString(who)
	if err != nil {
		return fmt.Errorf("say who the peer is with --allow, or --expect: %w", err)
	}
	me, err := openIdentity(ctx) // waits until the agent has one; ctx ends that
	if err != nil {
		return err
	}
	defer me.Close()
	if *call != "" {
		return get(ctx, me.client(peer), *call, out)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	return serve(ctx, l, me, peer)
}

// serve greets whoever may call.
func serve(ctx context.Context, l net.Listener, me *identity, allowed spiffeid.ID) error {
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, TLSConfig: me.server(allowed), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s\n", r.TLS.PeerCertificates[0].URIs[0])
	})}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })() // what it says is what Serve says
	if err := s.ServeTLS(l, "", ""); ctx.Err() == nil {
		return err
	}
	return nil
}

// get prints what is answered.
func get(ctx context.Context, c *http.Client, url string, out io.Writer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	_, err = io.Copy(out, answer.Body)
	return err
}
