package controlplane

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/heddle-mesh/heddle/identity"
)

const (
	// refusalsWindow is how long the same refusal of the same peer is not written down again, and refusalsLogged how many
	// lines there may be in that time: whoever fills the log is not to fill the disk. All are counted.
	refusalsWindow = 10 * time.Minute
	refusalsLogged = 200
)

// guard is a door's side of TLS that tells of the handshakes that it refused: gRPC's server tells nobody.
type guard struct {
	credentials.TransportCredentials
	refused func(from net.Addr, err error)
}

// ServerHandshake implements credentials.TransportCredentials.
func (g guard) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := g.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		g.refused(raw.RemoteAddr(), err)
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (g guard) Clone() credentials.TransportCredentials {
	return guard{g.TransportCredentials.Clone(), g.refused}
}

// refusedHandshake counts a handshake that this side refused. One that the peer gave up is no refusal of ours: a probe
// that only connects, or a sidecar that does not trust us, which says so itself.
func (p *Plane) refusedHandshake(from net.Addr, err error) {
	if gaveUp(err) {
		return
	}
	reason := string(identity.CodeOf(err))
	if reason == "" {
		reason = deniedHandshake
	}
	p.metrics.denied(reason)
	if p.told.mayLog(hostOf(from), reason, time.Now()) {
		p.log.Warn().Str("code", reason).Stringer("peer", from).AnErr("cause", err).Msg("refused a connection to the door of sidecars")
	}
}

// gaveUp says whether it was the peer that ended a handshake.
func gaveUp(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" { // an alert
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// refusalLog bounds what is written down of refusals. The zero value is ready.
type refusalLog struct {
	mu    sync.Mutex
	since time.Time
	lines map[refusalLine]struct{}
}

type refusalLine struct{ host, reason string }

// mayLog says whether a refusal is to be written down: it is the first of its kind for a while.
func (l *refusalLog) mayLog(host, reason string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil || now.Sub(l.since) >= refusalsWindow {
		l.since, l.lines = now, map[refusalLine]struct{}{}
	}
	line := refusalLine{host, reason}
	if _, told := l.lines[line]; told || len(l.lines) >= refusalsLogged {
		return false
	}
	l.lines[line] = struct{}{}
	return true
}

// secondNode counts a stream that was ended because a message on it named another node than its first.
func (p *Plane) secondNode() { p.metrics.denied(deniedSecondNode) }
