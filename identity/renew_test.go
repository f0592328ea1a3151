package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fetches records when a certificate was asked for, and answers with one of a given life, or with an error.
type fetches struct {
	mu   sync.Mutex // guards what follows
	at   []time.Time
	life time.Duration
	err  error
}

// answer changes what is answered from now on.
func (f *fetches) answer(life time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life, f.err = life, err
}

func (f *fetches) times() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.at)
}

func (f *fetches) fetch(context.Context) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = append(f.at, time.Now())
	if f.err != nil {
		return nil, f.err
	}
	return &tls.Certificate{Leaf: &x509.Certificate{NotBefore: time.Now().Add(-BackDate), NotAfter: time.Now().Add(f.life)}}, nil
}

// run renews in a bubble of time until the test ends.
func run(t *testing.T, o RenewerOptions) *Renewer {
	r := NewRenewer(o)
	done := make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	synctest.Wait()
	return r
}

func TestACertificateIsRenewedAtHalfOfTheLifeThatWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetches{life: 10 * time.Second} // much less than what it is back-dated by
		var current Current
		run(t, RenewerOptions{Fetch: f.fetch, Use: current.Set})
		seen := map[time.Duration]bool{}
		for range 200 {
			if current.Certificate() == nil || time.Now().After(current.Certificate().Leaf.NotAfter) {
				t.Fatal("no certificate that lives")
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		at := f.times()
		for i := range at[1:] {
			gap := at[i+1].Sub(at[i])
			if gap < 4*time.Second || gap > 6*time.Second {
				t.Errorf("renewed after %s", gap)
			}
			seen[gap] = true
		}
		if len(at) < 33 || len(seen) < 10 {
			t.Errorf("%d renewals, after %d different times", len(at), len(seen))
		}
	})
}

func TestAfterAFailureItTriesMoreAndMoreSeldomAndKeepsWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetches{life: time.Hour}
		var current Current
		var told atomic.Int32
		run(t, RenewerOptions{Fetch: f.fetch, Use: current.Set, Failed: func(error, time.Duration) { told.Add(1) }})
		first := current.Certificate()
		f.answer(0, errors.New("the CA is away"))
		time.Sleep(59 * time.Minute)
		synctest.Wait()

		if current.Certificate() != first {
			t.Error("the certificate was given up")
		}
		tries := f.times()[1:]
		if int(told.Load()) != len(tries) || len(tries) < 45 || len(tries) > 180 {
			t.Errorf("%d tries, %d failures told", len(tries), told.Load())
		}
		if gap := tries[1].Sub(tries[0]); gap > firstRetry {
			t.Errorf("the second try came after %s", gap)
		}
		for i := range tries[1:] {
			if gap := tries[i+1].Sub(tries[i]); gap > longRetry {
				t.Errorf("a try came after %s", gap)
			}
		}

		// Over its time, too, it goes on, and heals when the CA is back.
		time.Sleep(2 * time.Hour)
		f.answer(time.Hour, nil)
		time.Sleep(longRetry)
		synctest.Wait()
		if current.Certificate() == first {
			t.Error("it did not heal")
		}
	})
}

func TestBeforeTheFirstCertificateItTriesOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetches{err: errors.New("the CA is away")}
		var current Current
		run(t, RenewerOptions{Fetch: f.fetch, Use: current.Set})
		if _, err := current.GetCertificate(nil); !errors.Is(err, ErrNoCertificate) {
			t.Errorf("a handshake got %v", err)
		}
		time.Sleep(10 * time.Minute)
		f.answer(time.Hour, nil)
		time.Sleep(startRetry)
		synctest.Wait()
		if cert, err := current.GetClientCertificate(nil); err != nil || cert != current.Certificate() {
			t.Errorf("no certificate %s after the CA came back: %v", startRetry, err)
		}
	})
}

func TestARenewalCanBeAskedForButNotToWearTheCAOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetches{life: time.Hour}
		r := run(t, RenewerOptions{Fetch: f.fetch, Use: func(*tls.Certificate) {}})
		r.Renew()
		synctest.Wait()
		if len(f.times()) != 2 {
			t.Errorf("%d fetches after one wish", len(f.times()))
		}
		f.answer(0, errors.New("the CA is away"))
		r.Renew()
		synctest.Wait()
		before := len(f.times())
		for range 100 {
			r.Renew()
			synctest.Wait()
		}
		if len(f.times()) != before {
			t.Errorf("%d fetches more at once, after a failure", len(f.times())-before)
		}
	})
}

func TestAnAnswerThatIsNoUseIsAFailure(t *testing.T) {
	for name, cert := range map[string]*tls.Certificate{
		"none": nil, "no leaf": {}, "expired": {Leaf: &x509.Certificate{NotAfter: time.Now().Add(-time.Hour)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRenewer(RenewerOptions{Fetch: func(context.Context) (*tls.Certificate, error) { return cert, nil }})
			if got, err := r.fetch(t.Context()); err == nil {
				t.Errorf("used: %v", got)
			}
		})
	}
}

func TestAFetchThatHangsIsEndedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		run(t, RenewerOptions{Use: func(*tls.Certificate) {}, Timeout: time.Second, Fetch: func(ctx context.Context) (*tls.Certificate, error) {
			calls.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := calls.Load(); n < 3 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestAServerTakesANewCertificateWithoutARestart(t *testing.T) {
	ca := root(t)
	var current Current
	renew := func() *x509.Certificate {
		key := newKey(t)
		chain := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), Request{ID: web(t), Key: key.Public(), DNSNames: []string{"heddle"}}))
		current.Set(&tls.Certificate{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key, Leaf: chain[0]})
		return chain[0]
	}
	renew()
	listener := must2(t, func() (net.Listener, error) {
		return tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: current.GetCertificate, MinVersion: tls.VersionTLS13})
	})
	t.Cleanup(func() { _ = listener.Close() })
	go serveHandshakes(listener)

	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate())
	for range 3 {
		want := renew()
		conn := must[*tls.Conn](t)(tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "heddle", MinVersion: tls.VersionTLS13}))
		if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			t.Errorf("serial number %x, want %x", got.SerialNumber, want.SerialNumber)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// serveHandshakes shakes hands until the listener closes.
func serveHandshakes(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}()
	}
}
