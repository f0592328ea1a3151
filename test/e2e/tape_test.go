//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestBytesBetweenTwoMeshedPodsAreTLSFromTheCallersIdentity(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	ns := env.namespace(t)
	ns.applyTown("testdata/tape.yaml")
	ns.eventually(func() error { return ns.askAs(ns.identity(), "client", "http://server") })
	const secret = "nobody-may-read-this"
	tape := ns.record("client", "server", func() {
		for range 15 {
			if err := ns.askAs(ns.identity(), "client", "-H", "x-secret: "+secret, "http://server/"+secret); err != nil {
				t.Error(err)
			}
		}
	})
	const applicationData = "\x17\x03\x03"
	if strings.Contains(tape, secret) || strings.Contains(tape, ns.identity()) || !strings.Contains(tape, applicationData) {
		t.Errorf("the network of meshed pods saw the secret: %v, the caller's identity: %v, TLS: %v; want TLS alone",
			strings.Contains(tape, secret), strings.Contains(tape, ns.identity()), strings.Contains(tape, applicationData))
	}
	// What the recorder would have seen otherwise.
	tape = ns.record("plain", "server", func() {
		if err := ns.askAs("", "plain", "-H", "x-secret: "+secret, "http://server/"+secret); err != nil {
			t.Error(err)
		}
	})
	if !strings.Contains(tape, "x-secret: "+secret) {
		t.Errorf("the recording of %d bytes of a call in plain text does not hold it", len(tape))
	}
}

// record gives what the network saw of the packets between two pods while f ran.
func (n *namespace) record(client, server string, f func()) string {
	n.t.Helper()
	from, _ := n.addresses(client)
	to, _ := n.addresses(server)
	const end = "this-ends-the-recording"
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	cmd := n.command(ctx, "exec", "recorder", "--", "/testapp", "record", "--between="+from+","+to, "--until="+end)
	var said strings.Builder
	cmd.Stderr = &said
	out := n.start(cmd)
	tape := bufio.NewReader(out)
	if line, err := tape.ReadString('\n'); err != nil || line != "recording\n" {
		n.t.Fatalf("the recording begins with %q, %v: %s", line, err, said.String())
	}
	f()
	rest := make(chan string, 1)
	go func() {
		b, err := io.ReadAll(tape)
		if err != nil {
			b = nil
		}
		rest <- string(b)
	}()
	// In plain text: a packet that no sidecar touches. A recorder that is behind may lose one.
	for {
		if _, err := n.bash("plain", "printf "+end+" >/dev/udp/"+to+"/9"); err != nil {
			n.t.Fatal(err)
		}
		select {
		case got := <-rest:
			if err := cmd.Wait(); err != nil {
				n.t.Fatalf("record: %v: %s", err, said.String())
			}
			return got
		case <-time.After(time.Second):
		}
	}
}

func (n *namespace) start(cmd *exec.Cmd) io.Reader {
	n.t.Helper()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}
