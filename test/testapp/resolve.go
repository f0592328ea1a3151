package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
)

// resolve looks a name up by the one protocol that it is told, and gives its addresses as JSON.
func resolve(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("resolve", flag.ContinueOnError)
	name := flags.String("name", "", "which name")
	protocol := flags.String("protocol", "udp", "udp or tcp")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *protocol != "udp" && *protocol != "tcp" {
		return fmt.Errorf("--protocol=%q: want udp or tcp", *protocol)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, *protocol, address)
	}}
	addresses, err := resolver.LookupHost(ctx, *name)
	if err != nil {
		return err
	}
	slices.Sort(addresses)
	return json.NewEncoder(out).Encode(addresses)
}
