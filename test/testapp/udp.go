package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
)

// udp is a server that gives back every packet, with who sent it before it: "10.1.0.7: text".
func udp(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("udp", flag.ContinueOnError)
	listen := flags.String("listen", ":9000", "address and port to listen on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp", *listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", *listen, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	fmt.Fprintln(out, "listening on", conn.LocalAddr())
	b := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a packet: %w", err)
		}
		host, _, err := net.SplitHostPort(from.String())
		if err != nil {
			return err
		}
		// A packet that does not arrive is missed by its sender.
		_, _ = conn.WriteTo(append([]byte(host+": "), b[:n]...), from)
	}
}
