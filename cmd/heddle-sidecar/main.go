// Command heddle-sidecar is the agent beside an Envoy: it gets and keeps the pod's identity, gives it to Envoy and to
// applications that ask for it, and runs Envoy. It is a program of its own so that it stays small in every pod.
//
// heddle-sidecar init is what a pod's init container runs: it redirects the pod's traffic to Envoy, and ends when that can
// route. heddle-sidecar started is the hook of the sidecar's start: it ends when the agent listens.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/sidecar"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program with its surroundings as arguments; it returns the exit code. The first SIGINT or SIGTERM ends it
// gracefully, Envoy first; the second at once.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	do := serve
	if len(args) > 0 {
		switch args[0] {
		case "init":
			do, args = initialise, args[1:]
		case "started":
			do, args = started, args[1:]
		}
	}
	err := do(ctx, args, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "heddle-sidecar:", err)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errTold):
		return 128 + int(syscall.SIGTERM) // as of whoever does not catch it: policies for Jobs look at exit codes
	}
	return 1
}

// noCoreDumps keeps the private key out of core dumps, of this process and of Envoy, which inherits the limit. It is 1
// byte and not 0: either is too little for a file, but where core_pattern names a program Linux asks no limit, but for that
// of 1, which it takes for "no dump" (fs/coredump.c). Under a hard limit of 0 there can be no other.
func noCoreDumps() error {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit)
	if err == nil {
		limit.Max = min(limit.Max, 1)
		limit.Cur = limit.Max
		err = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	}
	if err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return nil
}

func serve(ctx context.Context, args []string, stdout, stderr io.Writer) (failed error) {
	s := defaults()
	flags := s.flags(stderr)
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(stdout, "The agent beside an Envoy: its identity, and whoever else in the pod needs it.\nheddle-sidecar init redirects a pod's traffic, and heddle-sidecar started waits until the agent listens: --help of each\n\nFlags:\n%s", flags.FlagUsages())
		return nil
	case err != nil:
		return fmt.Errorf("%w; heddle-sidecar --help lists the flags", err)
	case flags.NArg() > 0:
		return fmt.Errorf("%q is not understood: there are flags only; heddle-sidecar --help lists them", flags.Arg(0))
	}
	if err := noCoreDumps(); err != nil {
		return err
	}
	if s.joinSocket != "" {
		clean, err := s.join(ctx, flags)
		if err != nil {
			return err
		}
		defer func() { failed = errors.Join(failed, clean()) }()
	}
	o, err := s.options(stderr)
	if err != nil {
		return err
	}
	a, err := sidecar.New(o)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
