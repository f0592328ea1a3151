package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/client"
)

const sidecars = 400

// BenchmarkSidecarsThatStartAtOnce measures how long a sidecar waits for its first certificate when 400 start at once:
// a connection of its own, a token that is looked at, a CSR and the check of the answer. The sidecars are a process of
// their own, so that the CPU is the signer's alone; they share the machine with it, and so does the API server.
func BenchmarkSidecarsThatStartAtOnce(b *testing.B) {
	b.Run("join tokens", func(b *testing.B) {
		s, joins := forFiles(b)
		s.startAtOnce(b, func(i int) string {
			return joins.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: fmt.Sprint("web-", i)})
		})
	})
	b.Run("API server", func(b *testing.B) {
		s := forCluster(b, nil)
		pods := together(func(i int) *corev1.Pod {
			return s.pod(s.namespace, fmt.Sprint("web-", i), func(p *corev1.Pod) { p.Spec.NodeName = fmt.Sprint("node-", i%10) })
		})
		s.startAtOnce(b, func(i int) string { return s.token(pods[i], attest.DefaultAudience) })
	})
}

// together makes what each sidecar needs, some at a time.
func together[T any](one func(i int) T) []T {
	all := make([]T, sidecars)
	var making sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range all {
		slots <- struct{}{}
		making.Go(func() {
			defer func() { <-slots }()
			all[i] = one(i)
		})
	}
	making.Wait()
	return all
}

// startAtOnce measures sidecars with tokens that are new each time: one that was seen before would not be reviewed.
func (s *signer) startAtOnce(b *testing.B, token func(i int) string) {
	b.Helper()
	var took []time.Duration
	var used time.Duration
	again := 0
	for b.Loop() {
		o := starters{Address: s.address, Signer: signerID(b)}
		o.Bundle = must[[]byte](b)(identity.MarshalBundle(must[*spiffebundle.Bundle](b)(s.bundleNow())))
		o.Sidecars = together(func(i int) starter { return starter{token(i), csrOf(b, newKey(b))} })
		order := must[[]byte](b)(json.Marshal(o))
		cmd := exec.CommandContext(b.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), startersVariable+"=1")
		cmd.Stdin, cmd.Stderr = bytes.NewReader(order), os.Stderr
		before := ownCPU(b)
		answer, err := cmd.Output()
		used += ownCPU(b) - before
		var each []outcome
		if err := errors.Join(err, json.Unmarshal(answer, &each)); err != nil {
			b.Fatal(err)
		}
		for _, o := range each {
			took, again = append(took, o.Took), again+o.Again
		}
	}
	slices.Sort(took)
	at := func(percent int) float64 { return took[(len(took)-1)*percent/100].Seconds() * 1000 }
	b.ReportMetric(at(50), "ms/p50")
	b.ReportMetric(at(99), "ms/p99")
	b.ReportMetric(at(100), "ms/max")
	b.ReportMetric(float64(again)/float64(b.N), "retries")
	b.ReportMetric(used.Seconds()*1000/float64(len(took)), "cpu-ms/issue")
	b.ReportMetric(0, "ns/op")
}

// ownCPU is what this process has used of all processors, in which nobody but the signer has anything to do.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// startersVariable makes this program start sidecars instead of running tests.
const startersVariable = "HEDDLE_BENCH_STARTERS"

// starters are sidecars that start at once.
type starters struct {
	Address  string
	Signer   spiffeid.ID
	Bundle   []byte
	Sidecars []starter
}

type starter struct {
	Token string
	CSR   []byte
}

// runStarters reads what to start, and writes how long each waited.
func runStarters(in io.Reader, out io.Writer) error {
	var o starters
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return err
	}
	bundle, err := identity.ParseBundle(o.Signer.TrustDomain(), o.Bundle)
	if err != nil {
		return err
	}
	each, errs := make([]outcome, len(o.Sidecars)), make([]error, len(o.Sidecars))
	var starting sync.WaitGroup
	begin := make(chan struct{})
	for i, s := range o.Sidecars {
		c := client.New(client.Options{
			Address: o.Address, Signer: o.Signer, Timeout: time.Minute,
			Bundle: func() (*spiffebundle.Bundle, error) { return bundle, nil },
		})
		starting.Go(func() {
			<-begin
			each[i], errs[i] = untilCertified(c, s)
		})
	}
	close(begin)
	starting.Wait()
	return errors.Join(errors.Join(errs...), json.NewEncoder(out).Encode(each))
}

// outcome is what a starter did until it had its certificate.
type outcome struct {
	Took  time.Duration
	Again int // how often it had to ask again
}

// untilCertified asks as an agent does: a connection that broke, because the signer's time for a handshake was over for
// example, is tried again.
func untilCertified(c *client.Client, s starter) (o outcome, err error) {
	at := time.Now()
	for {
		_, err := c.SVID(context.Background(), s.Token, s.CSR)
		o.Took = time.Since(at)
		if _, refused := errors.AsType[*client.Error](err); err == nil || refused || o.Took > time.Minute {
			return o, err
		}
		o.Again++
	}
}
