// Command testapp is what the end-to-end tests run in pods: servers and clients, one subcommand each.
//
//	testapp -listen=:80 --text=Hello           an HTTP server that always says the same, as hashicorp/http-echo does
//	testapp tcp --listen=:9000 --greeting=hi   a TCP server that gives back lines
//	testapp grpc --listen=:9001                a gRPC server
//	testapp udp --listen=:9000                 a UDP server that gives back packets
//	testapp load --url=http://echo --for=10s   a client that counts, of any of the three
//	testapp certificates --of=10.1.0.7:80      what a sidecar shows to another
//	testapp resolve --name=echo --protocol=tcp looks a name up
//	testapp record --between=10.1.0.7,10.1.0.8 --until=end   gives what passes on the network, until that text does
//
// A subcommand is a line in the table below and a file of its own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// command is a subcommand. It ends without an error when ctx does.
type command struct {
	name string
	run  func(ctx context.Context, args []string, out io.Writer) error
}

func commands() []command {
	return []command{
		{"echo", echo},
		{"tcp", tcp},
		{"grpc", grpcServer},
		{"udp", udp},
		{"load", load},
		{"certificates", certificates},
		{"resolve", resolve},
		{"record", record},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testapp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"echo"}, args...)
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		var names []string
		for _, c := range all {
			names = append(names, c.name)
		}
		return fmt.Errorf("no command %q; there are: %s", args[0], strings.Join(names, ", "))
	}
	return all[i].run(ctx, args[1:], out)
}
