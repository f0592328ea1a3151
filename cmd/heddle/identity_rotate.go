package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
)

// rotateFlags are the flags of heddle identity rotate.
type rotateFlags struct {
	*identityFlags
	to   []string
	wait bool
}

func rotateCommand(identity *identityFlags) *cobra.Command {
	f := rotateFlags{identityFlags: identity}
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Begin to move to another CA",
		Long: `Begin to move to another CA: a new root, or with --to a given one, such as an intermediate of an offline root.
Nothing that is in use changes at once. Both are trusted first; the next one signs when every sidecar's Envoy trusts it;
the old one goes when nothing that it signed is left. Each step waits for the sidecars, and none of them notices.

Certificates are waited out until they are renewed, half a day if they live for one; tokens for applications, six minutes.
heddle identity shows how it goes on, --wait as well.

In a cluster it is said to the signer that leads, in its pod. A given CA goes there through standard input: its key is on
no disk of the pod.`,
		Example: `  heddle identity rotate --wait
  heddle identity rotate --to ca.pem --to ca.key --to root.pem
  cat ca.pem ca.key root.pem | kubectl exec -i -n heddle-system deploy/heddle-signer -- /heddle identity rotate --to -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.rotate(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	c.Flags().StringArrayVar(&f.to, "to", nil, "PEM of the CA to move to, - for standard input, several times for several files: its own certificate first, "+
		"those that it leads to up to the root, and its private key, ECDSA on P-256 or P-384 (default: a new root is made)")
	c.Flags().BoolVar(&f.wait, "wait", false, "print how it goes on until its end")
	return c
}

func abortCommand(f *identityFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "abort",
		Short: "Turn a rotation of the CA back",
		Long: `Turn a rotation of the CA back. Before the next CA signs it simply goes; once it does, the old one signs again and the
next one goes when nothing that it signed is left. When the old one is no longer trusted there is no way back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.client().Call(cmd.Context(), http.MethodPost, operator.AbortPath, nil, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "The rotation is turned back; heddle identity shows how it goes on.")
			return err
		},
	}
}

func (f *rotateFlags) rotate(ctx context.Context, in io.Reader, out io.Writer) error {
	var to operator.Rotation // to a new root
	var err error
	if len(f.to) > 0 {
		if to, err = readGiven(ctx, f.to, in); err != nil {
			return err
		}
	}
	before, err := f.facts(ctx)
	if err != nil {
		return err
	}
	if err := f.client().Call(ctx, http.MethodPost, operator.RotatePath, to, nil); err != nil {
		return err
	}
	if !f.wait {
		_, err := fmt.Fprintln(out, "The rotation has begun; heddle identity shows how it goes on, heddle identity abort turns it back.")
		return err
	}
	every := time.NewTicker(time.Second)
	defer every.Stop()
	return follow(ctx, before.Rotation, out, every.C, f.facts)
}

// follow prints how a rotation goes on, a line for each change, until its end. It fails if that is a return to the CA
// that signed before. What a control plane says in the moment after it was ordered may still be of before.
func follow(ctx context.Context, before keep.Progress, out io.Writer, tick <-chan time.Time, ask func(context.Context) (facts, error)) error {
	var last keep.Progress
	for {
		now, err := ask(ctx)
		switch {
		case ctx.Err() != nil:
			return errors.New("the rotation goes on without this command; heddle identity shows how")
		case err != nil:
			return fmt.Errorf("follow the rotation, which goes on: %w", err)
		}
		p := now.Rotation
		begun := p.Phase != before.Phase || !p.Since.Equal(before.Since)
		if begun && (p.Phase != last.Phase || p.Fault != last.Fault || !slices.Equal(p.Waits, last.Waits)) {
			if err := writeProgress(out, p); err != nil {
				return err
			}
			last = p
		}
		if begun && p.Phase == identity.Steady {
			if p.Signer == before.Signer {
				return errors.New("the rotation was turned back")
			}
			return nil
		}
		select {
		case <-tick:
		case <-ctx.Done():
		}
	}
}

func writeProgress(out io.Writer, p keep.Progress) error {
	text := fmt.Sprintf("%s: %s signs", p.Phase, short(p.Signer))
	if p.Phase == identity.Steady {
		text += " and alone is trusted"
	}
	for _, w := range p.Waits {
		text += "\n  " + w
	}
	if p.Fault != "" {
		text += "\n  × nothing is signed: " + p.Fault
	}
	_, err := fmt.Fprintln(out, text)
	return err
}
