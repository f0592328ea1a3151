package bounded

import (
	"errors"
	"net"
	"testing"
)

// offered are connections that come in.
type offered struct {
	net.Listener
	from []string
}

type offeredConn struct {
	net.Conn
	from   net.Addr
	closed *int
}

func (c offeredConn) RemoteAddr() net.Addr { return c.from }
func (c offeredConn) Close() error         { *c.closed++; return nil }

var errNoMore = errors.New("no more connections")

func TestOneAddressCannotTakeAllConnections(t *testing.T) {
	const perAddress = 512
	closed := 0
	incoming := &offered{}
	l := Listener(acceptor{incoming, &closed}, perAddress, 2*perAddress)
	for range perAddress + 10 {
		incoming.from = append(incoming.from, "192.0.2.7:4000")
	}
	incoming.from = append(incoming.from, "192.0.2.8:4000")
	var first net.Conn
	taken := 0
	for {
		c, err := l.Accept()
		if errors.Is(err, errNoMore) {
			break
		}
		if first == nil {
			first = c
		}
		taken++
	}
	if taken != perAddress+1 || closed != 10 {
		t.Errorf("took %d connections and closed %d; want %d and 10", taken, closed, perAddress+1)
	}
	for range 2 { // net/http closes some twice
		if err := first.Close(); err != nil {
			t.Error(err)
		}
	}
	incoming.from = []string{"192.0.2.7:4000", "192.0.2.7:4000"}
	if _, err := l.Accept(); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, errNoMore) {
		t.Errorf("one that was closed twice made room for two: %v", err)
	}
}

type acceptor struct {
	*offered
	closed *int
}

func (a acceptor) Accept() (net.Conn, error) {
	if len(a.from) == 0 {
		return nil, errNoMore
	}
	address, err := net.ResolveTCPAddr("tcp", a.from[0])
	a.from = a.from[1:]
	return offeredConn{from: address, closed: a.closed}, err
}
