package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// tcp is a server that gives back every line. With --greeting it speaks first.
func tcp(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("tcp", flag.ContinueOnError)
	listen := flags.String("listen", ":9000", "address and port to listen on")
	greeting := flags.String("greeting", "", "a line to say before the client says anything")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", *listen, err)
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	fmt.Fprintln(out, "listening on", listener.Addr())
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil // the process ends, and its connections with it
		}
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		go answer(conn, *greeting)
	}
}

// answer serves one connection. How it ends is for its client to judge.
func answer(conn net.Conn, greeting string) {
	defer conn.Close()
	if greeting != "" {
		if _, err := fmt.Fprintln(conn, greeting); err != nil {
			return
		}
	}
	_, _ = io.Copy(conn, conn)
}

// stream is a long-lived TCP connection over which a load client sends lines, one after the other.
type stream struct {
	mu      sync.Mutex
	address string
	greeted bool // the server speaks first
	conn    net.Conn
	reader  *bufio.Reader
	sent    int
	server  string // its greeting, if it speaks first
	ends    []end
}

// end is how a stream ended of which its client had more to ask.
type end struct {
	Server string    `json:"server"` // its greeting
	At     time.Time `json:"at"`
	Why    string    `json:"why"`
}

// call sends a line and waits for it. A broken connection is an error once; the next call makes a new one.
func (s *stream) call(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.exchange(ctx)
	if err != nil && s.conn != nil {
		s.ends = append(s.ends, end{s.server, time.Now(), reason(err)})
		s.conn.Close()
		s.conn = nil
	}
	return err
}

// ended gives the ends so far.
func (s *stream) ended() []end {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ends)
}

func (s *stream) exchange(ctx context.Context) (err error) {
	if s.conn == nil {
		var dialer net.Dialer
		if s.conn, err = dialer.DialContext(ctx, "tcp", s.address); err != nil {
			return err
		}
		s.reader, s.server = bufio.NewReader(s.conn), ""
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := s.conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if s.greeted && s.server == "" {
		greeting, err := s.reader.ReadString('\n')
		if err != nil {
			return fmt.Errorf("receive the greeting: %w", err)
		}
		s.server = strings.TrimSpace(greeting)
	}
	s.sent++
	line := fmt.Sprintf("line %d\n", s.sent)
	if _, err := io.WriteString(s.conn, line); err != nil {
		return fmt.Errorf("send on the stream: %w", err)
	}
	got, err := s.reader.ReadString('\n')
	if err != nil {
		return fmt.Errorf("receive on the stream: %w", err)
	}
	if got != line {
		return errors.New("the stream gives back another line than was sent")
	}
	return nil
}
