package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/heddle-mesh/heddle/demo"
)

// demoFlags are the flags of heddle demo with their defaults.
type demoFlags struct {
	manifests string
	envoy     string
	duration  time.Duration
	output    string
	rate      int
	log       string
	logLevel  string
}

func demoCommand() *cobra.Command {
	var f demoFlags
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the mesh on this machine, without Kubernetes",
		Long: `Run the control plane, three small services with a real Envoy each, and a load, on this machine: no Kubernetes, no
root, loopback addresses only. Live numbers show who calls whom, what a canary gets, what retries rescue, and what
circuit breakers and outlier detection do. Edit the files in the folder that it names, and the traffic follows.

With --for the exit status is 0 only if what was measured agrees with the policies. Ctrl-C ends the demo, leaves a summary
and cleans up; a second one kills it.`,
		Example: `  heddle demo
  heddle demo --for 20s -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o, closeLog, err := f.options(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeLog()) }()
			return demo.Run(cmd.Context(), o)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.manifests, "manifests", "", "folder of Kubernetes YAML (default: examples/demo, or a copy of it)")
	flags.StringVar(&f.envoy, "envoy", "", "path of an Envoy (default: the one that is found, or installed into the cache)")
	flags.DurationVar(&f.duration, "for", 0, "end by itself after this time of load")
	flags.StringVarP(&f.output, "output", "o", "", "json: one document at the end, and nothing else (needs --for)")
	flags.IntVar(&f.rate, "rate", 50, "pages that shoppers ask for in a second")
	flags.StringVar(&f.log, "log", "", "write a log of everything to this file")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error; with --log")
	return c
}

// options turns flags into the demo's options; the function that it gives closes the log.
func (f *demoFlags) options(cmd *cobra.Command) (demo.Options, func() error, error) {
	o := demo.Options{
		Folder: f.manifests, Envoy: f.envoy, For: f.duration, Rate: f.rate, Format: demo.Format(f.output),
		Out: cmd.OutOrStdout(), Notes: cmd.ErrOrStderr(), Log: zerolog.Nop(),
	}
	switch {
	case cmd.Flags().Changed("for") && o.For <= 0:
		return o, nil, fmt.Errorf("--for %s: want a time such as 20s, or leave it out and end the demo by Ctrl-C", f.duration)
	case o.Format != demo.Text && o.Format != demo.JSON:
		return o, nil, fmt.Errorf("--output %q: want json, or leave it out", f.output)
	case o.Format == demo.JSON && o.For <= 0:
		return o, nil, errors.New("-o json prints one document at the end: say when that is, as with --for 20s")
	case o.Rate < 1 || o.Rate > 1000:
		return o, nil, fmt.Errorf("--rate %d: want 1 to 1000", o.Rate)
	case o.For < 0:
		return o, nil, fmt.Errorf("--for %s: want a time of load, as 20s", o.For)
	}
	if f.log == "" {
		return o, func() error { return nil }, nil
	}
	file, err := os.OpenFile(f.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return o, nil, fmt.Errorf("open the log: %w", err)
	}
	if o.Log, err = newLogger(io.Writer(file), f.logLevel, "json"); err != nil {
		return o, nil, errors.Join(err, file.Close())
	}
	return o, file.Close, nil
}
