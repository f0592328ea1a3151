package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/injector/redirect"
	"github.com/heddle-mesh/heddle/model"
)

// initSettings are the flags of heddle-sidecar init.
type initSettings struct {
	inPorts, inCIDRs, outPorts, outCIDRs string
	backend                              string
	await                                string // host:port of the agent; empty: nothing is waited for
	print                                bool
}

func (s *initSettings) flags(stderr io.Writer) *pflag.FlagSet {
	f := pflag.NewFlagSet("heddle-sidecar init", pflag.ContinueOnError)
	f.SetOutput(stderr)
	f.SortFlags = false
	f.Usage = func() {}
	f.StringVar(&s.inPorts, "skip-inbound-ports", "", "ports of the pod that callers reach directly, as 9100,8000-8010")
	f.StringVar(&s.inCIDRs, "skip-inbound-cidrs", "", "networks whose hosts reach the pod directly, as 10.1.0.0/16,fd00::/8")
	f.StringVar(&s.outPorts, "skip-outbound-ports", "", "ports, on whatever host, that the pod reaches directly")
	f.StringVar(&s.outCIDRs, "skip-outbound-cidrs", "", "networks that the pod reaches directly")
	f.StringVar(&s.backend, "backend", string(redirect.Auto), "nftables, iptables, or auto: iptables where the kernel has no nf_tables")
	f.StringVar(&s.await, "await", "", "HOST:PORT of the agent beside this: end when it says, under "+prefixVariable+", that the sidecar can route (default: end at once)")
	f.BoolVar(&s.print, "print", false, "print the rules as nft writes them, and install nothing")
	return f
}

// initialise redirects the traffic of the pod that it runs in, and ends, or first waits for the pod's sidecar.
func initialise(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var s initSettings
	flags := s.flags(stderr)
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(stdout, "Redirect the traffic of the pod that this runs in to its Envoy. It needs CAP_NET_ADMIN.\n\nFlags:\n%s", flags.FlagUsages())
		return nil
	case err != nil:
		return fmt.Errorf("init: %w; heddle-sidecar init --help lists the flags", err)
	case flags.NArg() > 0:
		return fmt.Errorf("init: %q is not understood: there are flags only; heddle-sidecar init --help lists them", flags.Arg(0))
	}
	o, err := s.options()
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	agent, err := s.agent(os.Getenv(prefixVariable))
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if s.print {
		_, err := io.WriteString(stdout, redirect.Text(redirect.Rules(o)))
		return err
	}
	done, err := redirect.Install(ctx, o, redirect.Backend(s.backend))
	if err != nil {
		return fmt.Errorf("redirect the pod's traffic: %w", err)
	}
	fmt.Fprintf(stdout, "the pod's TCP traffic goes through ports %d (outbound) and %d (inbound), by %s\n",
		redirect.OutboundPort, redirect.InboundPort, done.Backend)
	if done.Why != "" {
		fmt.Fprintf(stdout, "%s was chosen because the kernel refuses the other: %s\n", done.Backend, done.Why)
	}
	if !done.IPv6 {
		fmt.Fprintln(stdout, "the pod has no IPv6 address that others reach; if it gets one, callers of its application there are refused")
	}
	if agent == "" {
		return nil
	}
	return await(ctx, agent, stdout)
}

// agent gives the URL that says whether the sidecar can route; empty: nothing is waited for.
func (s *initSettings) agent(prefix string) (string, error) {
	if s.await == "" {
		return "", nil
	}
	if err := checkAddress(s.await); err != nil {
		return "", fmt.Errorf("--await: %w", err)
	}
	if prefix == "" {
		return "", errors.New("--await: without " + prefixVariable + " the agent does not answer; set it to what the sidecar has")
	}
	return "http://" + s.await + "/" + prefix + "/readyz", nil
}

// checkAddress says what is wrong with a host and port.
func checkAddress(text string) error {
	if host, port, err := net.SplitHostPort(text); err != nil || host == "" || port == "" {
		return fmt.Errorf("%q: want host:port", text)
	}
	return nil
}

func (s *initSettings) options() (o redirect.Options, err error) {
	var errs [4]error
	o.SkipInboundPorts, errs[0] = skips("skip-inbound-ports", s.inPorts, model.ParsePorts)
	o.SkipInboundCIDRs, errs[1] = skips("skip-inbound-cidrs", s.inCIDRs, redirect.ParseCIDRs)
	o.SkipOutboundPorts, errs[2] = skips("skip-outbound-ports", s.outPorts, model.ParsePorts)
	o.SkipOutboundCIDRs, errs[3] = skips("skip-outbound-cidrs", s.outCIDRs, redirect.ParseCIDRs)
	return o, errors.Join(errs[:]...)
}

func skips[T any](flag, text string, parse func(string) (T, error)) (T, error) {
	v, err := parse(text)
	if err != nil {
		err = fmt.Errorf("--%s: %w", flag, err)
	}
	return v, err
}
