package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/pflag"
)

// startPatience is how long an agent may take until it listens. It has nothing to do before that.
const startPatience = 30 * time.Second

// started ends when somebody listens at an address: as a hook of the sidecar's start it keeps a kubelet from asking an agent that
// does not listen yet, of which it would warn in an event of each pod.
func started(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := pflag.NewFlagSet("heddle-sidecar started", pflag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {}
	switch err := f.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		_, err := fmt.Fprintf(stdout, "Wait until the agent listens, for %s: heddle-sidecar started HOST:PORT\n", startPatience)
		return err
	case err != nil:
		return fmt.Errorf("started: %w; it has no flags", err)
	case f.NArg() != 1:
		return fmt.Errorf("started: %d arguments given, want one, the HOST:PORT that the agent answers at", f.NArg())
	}
	if err := checkAddress(f.Arg(0)); err != nil {
		return fmt.Errorf("started: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return untilConnected(ctx, func() error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", f.Arg(0))
		if err != nil {
			return err
		}
		return c.Close()
	})
}

func untilConnected(ctx context.Context, connect func() error) error {
	for {
		err := connect()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent does not listen: %w; the container's log says why", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
