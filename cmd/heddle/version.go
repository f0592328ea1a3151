package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/reach"
)

// versionFlags are the flags of heddle version.
type versionFlags struct {
	clusterFlags
	clientOnly bool
	output     string
}

// versions are what heddle version tells.
type versions struct {
	Client  buildinfo.Info            `json:"client"`
	Server  map[string]buildinfo.Info `json:"server,omitempty"`  // by replica
	Proxies map[string]int            `json:"proxies,omitempty"` // by version of the sidecar's agent and Envoy: how many
	Error   string                    `json:"error,omitempty"`   // why the rest is missing
}

func versionCommand() *cobra.Command {
	var f versionFlags
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program, the control plane and the sidecars",
		Example: `  heddle version
  heddle version --client -o json`,
		Args:    cobra.NoArgs,
		PreRunE: chooseSocket,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.show(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := c.Flags()
	f.connect(flags)
	flags.StringVar(&f.socket, "socket", "", "ask the control plane behind this unix socket (heddle serve) instead of a cluster's")
	flags.StringVarP(&f.namespace, "namespace", "n", "", "whose sidecars, if you may not see all")
	flags.BoolVar(&f.clientOnly, "client", false, "this program's alone; ask nobody")
	f.output = "table"
	flags.VarP(checked{&f.output, oneOf("table", "json")}, "output", "o", "table or json")
	f.complete(c)
	return c
}

// show prints what can be found out, and fails if that is not all.
func (f *versionFlags) show(ctx context.Context, out io.Writer) error {
	v := versions{Client: buildinfo.Get()}
	var err error
	if !f.clientOnly {
		if err = f.ask(ctx, &v); err != nil {
			v.Error = err.Error()
		}
	}
	if f.output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if printErr := e.Encode(v); printErr != nil {
			return fmt.Errorf("print versions: %w", printErr)
		}
		if err != nil {
			return errSilent
		}
		return nil
	}
	fmt.Fprintf(out, "Client version: %s\n", v.Client.Version)
	for _, name := range slices.Sorted(maps.Keys(v.Server)) {
		fmt.Fprintf(out, "Server version: %s (%s)\n", v.Server[name].Version, name)
	}
	for _, version := range slices.Sorted(maps.Keys(v.Proxies)) {
		fmt.Fprintf(out, "Proxies: %d with %s\n", v.Proxies[version], version)
	}
	if err != nil {
		return fmt.Errorf("ask for the server's version: %w", err)
	}
	return nil
}

func (f *versionFlags) ask(ctx context.Context, v *versions) error {
	replicas, err := f.replicas(ctx, f.namespace)
	if err != nil {
		return err
	}
	v.Server = map[string]buildinfo.Info{}
	for _, r := range replicas {
		name := f.socket
		if s, ok := r.(fmt.Stringer); ok {
			name = s.String()
		}
		var build buildinfo.Info
		if err := r.Get(ctx, api.VersionPath, &build); err != nil {
			return err
		}
		v.Server[name] = build
	}
	proxies, err := reach.Proxies(ctx, replicas, f.namespace)
	if err != nil {
		return err
	}
	v.Proxies = map[string]int{}
	for _, p := range proxies {
		v.Proxies[softwareOf(p)]++
	}
	return nil
}

// softwareOf names what a sidecar runs.
func softwareOf(p api.Proxy) string {
	agent, envoy := p.Agent, p.Envoy
	if agent == "" {
		agent = "an agent that does not say its version"
	}
	if envoy == "" {
		return agent
	}
	return agent + ", Envoy " + envoy
}
