package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/operator"
)

// identityFlags are the flags of heddle identity with their defaults.
type identityFlags struct {
	socket  string
	at      string
	output  string
	cluster clusterFlags
	// fromCluster is set where a flag names one: its control plane is asked then, instead of the socket's.
	fromCluster bool
}

// whereToSay helps whoever wants to change the CA of a cluster from outside.
func whereToSay(c *cobra.Command, err error) error {
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) && slices.Contains([]string{"context", "kubeconfig", "heddle-namespace"}, unknown.GetSpecifiedName()) {
		return fmt.Errorf("%w; in a cluster this is said in the pod of the signer that leads: kubectl exec -n heddle-system deploy/heddle-signer -- /%s", err, c.CommandPath())
	}
	return whichFlags(c, err)
}

func identityCommand() *cobra.Command {
	var f identityFlags
	c := &cobra.Command{
		Use:   "identity",
		Short: "Show who is who, until when, and rotate the CA",
		Long: `Show the trust anchors, the issuers, the control plane's own certificates and those of all sidecars, and where a rotation
of the CA stands. It asks the control plane on the socket of heddle serve; or that of a cluster, if --kubeconfig, --context or
--heddle-namespace names one.

With --at it says what will have expired by then. Leaves are renewed by themselves, so they count as expired only if
nobody will be there to renew them. The exit status is 1 if nothing is signed now, or if anything is marked ×: an anchor or
an issuer that has expired by then, a leaf that nobody will have renewed, or one of a CA that was given up.`,
		Example: `  heddle identity
  heddle identity --at +45d
  heddle identity --context production
  heddle identity rotate --wait`,
		Args:              cobra.NoArgs,
		PersistentPreRunE: chooseSocket,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.fromCluster = namesCluster(cmd)
			return f.show(cmd.Context(), cmd.OutOrStdout(), time.Now())
		},
	}
	c.PersistentFlags().StringVar(&f.socket, "socket", defaultSocket(), "unix socket of the control plane")
	c.Flags().StringVar(&f.at, "at", "", "a time to look ahead to: +45d, +12h, 2027-01-31 or RFC 3339 (default: now)")
	f.output = "table"
	c.Flags().VarP(checked{&f.output, oneOf("table", "wide", "json")}, "output", "o", "table, wide or json")
	f.cluster.connect(c.Flags())
	f.cluster.complete(c)
	for _, sub := range []*cobra.Command{rotateCommand(&f), abortCommand(&f), recoverCommand(&f)} {
		sub.SetFlagErrorFunc(whereToSay)
		c.AddCommand(sub)
	}
	return c
}

func (f *identityFlags) client() operator.Client { return operator.Client{Socket: f.socket} }

// facts asks the control plane.
func (f *identityFlags) facts(ctx context.Context) (facts, error) {
	var have facts
	err := f.client().Call(ctx, http.MethodGet, operator.IdentityPath, nil, &have)
	return have, err
}

// clusterFacts asks a cluster's control plane: the replica that signs, or else any.
func (f *identityFlags) clusterFacts(ctx context.Context) (facts, error) {
	replicas, err := f.cluster.replicas(ctx, "")
	if err != nil {
		return facts{}, err
	}
	var have facts
	for _, r := range replicas {
		var some facts
		if err := r.Get(ctx, api.IdentityPath, &some); err != nil {
			return facts{}, err
		}
		if have = some; have.Rotation.Leading {
			break
		}
	}
	return have, nil
}

// show prints what there is, and fails if something has expired at the time that was asked for.
func (f *identityFlags) show(ctx context.Context, out io.Writer, now time.Time) error {
	at, err := parseAt(f.at, now)
	if err != nil {
		return err
	}
	ask := f.facts
	if f.fromCluster {
		ask = f.clusterFacts
	}
	have, err := ask(ctx)
	if err != nil {
		return err
	}
	r := judge(have, now, at)
	if f.output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		_, err = io.WriteString(out, r.table(f.output == "wide" || widthOf(out) >= wideWidth))
	}
	if err != nil {
		return fmt.Errorf("print identities: %w", err)
	}
	if r.Expired > 0 || r.Rotation.Fault != "" {
		return errSilent
	}
	return nil
}

// widthOf is that of a terminal, in characters; what is no terminal has no bound.
func widthOf(out io.Writer) int {
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			return width
		}
		return 80
	}
	return wideWidth
}

func recoverCommand(f *identityFlags) *cobra.Command {
	yes := false
	c := &cobra.Command{
		Use:   "recover",
		Short: "Give up a CA that is gone, so that a new root is made",
		Long: `Give up a CA that is gone, so that a new root is made. Restore it from a backup instead if there is one: then signing
goes on within seconds, and nothing else happens.

` + recoveryCosts,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				fmt.Fprintln(cmd.ErrOrStderr(), recoveryCosts)
				return errors.New("nothing was done; repeat it with --yes if you want that")
			}
			if err := f.client().Call(cmd.Context(), http.MethodPost, operator.RecoverPath, nil, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "The old CA is given up; a new root is made within seconds: heddle identity shows it.")
			return err
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	return c
}

const recoveryCosts = `What it costs: nobody trusts the new root yet. Until a sidecar has a certificate of it, it and those that have one refuse
each other's connections. In a cluster sidecars fetch one by themselves once the kubelet has brought them the new trust
bundle; with --manifests when their certificates have expired and they join again. What is left of the old CA must be deleted first.`
