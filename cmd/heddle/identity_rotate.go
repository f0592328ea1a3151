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
	chain, key, anchors, jwtKey string
	wait                        bool
}

func rotateCommand(identity *identityFlags) *cobra.Command {
	f := rotateFlags{identityFlags: identity}
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Begin to move to another CA",
		Long: `Begin to move to another CA: a new root, or with --to-chain a given one, such as an intermediate of an offline root.
Nothing that is in use changes at once. Both are trusted first; the next one signs when every sidecar's Envoy trusts it;
the old one goes when nothing that it signed is left. Each step waits for the sidecars, and none of them notices.

Tokens for applications are waited out, which takes an hour. heddle identity shows how it goes on, --wait as well.`,
		Example: `  heddle identity rotate --wait
  heddle identity rotate --to-chain ca.pem --to-key ca.key --anchors root.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.rotate(cmd.Context(), cmd.OutOrStdout()) },
	}
	c.Flags().StringVar(&f.chain, "to-chain", "", "PEM file of the CA to move to, its own certificate first, without the root (default: a new root is made)")
	c.Flags().StringVar(&f.key, "to-key", "", "PEM file of its private key, ECDSA on P-256 or P-384")
	c.Flags().StringVar(&f.anchors, "anchors", "", "PEM file of the roots that it leads to; none if its certificate is self-signed")
	c.Flags().StringVar(&f.jwtKey, "jwt-key", "", "PEM file of a key on P-256 that signs tokens for applications (default: a new one is made)")
	c.Flags().BoolVar(&f.wait, "wait", false, "print how it goes on until its end")
	c.MarkFlagsRequiredTogether("to-chain", "to-key")
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

func (f *rotateFlags) rotate(ctx context.Context, out io.Writer) error {
	to, err := f.target()
	if err != nil {
		return err
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
	return follow(ctx, before.Rotation.Signer, out, every.C, f.facts)
}

// target reads the files of a given CA.
func (f *rotateFlags) target() (operator.Rotation, error) {
	var to operator.Rotation
	if f.chain == "" {
		if f.anchors != "" || f.jwtKey != "" {
			return to, errors.New("--anchors and --jwt-key belong to a given CA: name it with --to-chain and --to-key")
		}
		return to, nil
	}
	m, err := caFiles{caFile{"to-chain", f.chain}, caFile{"to-key", f.key}, caFile{"anchors", f.anchors}, caFile{"jwt-key", f.jwtKey}}.read()
	if err != nil {
		return to, err
	}
	return operator.Rotation{Certificates: string(m.Certificates), Key: string(m.Key), Anchors: string(m.Anchors), JWTKey: string(m.JWTKey)}, nil
}

// follow prints how a rotation goes on, a line for each change, until its end. It fails if that is a return to the CA
// that signed before.
func follow(ctx context.Context, before string, out io.Writer, tick <-chan time.Time, ask func(context.Context) (facts, error)) error {
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
		if p.Phase != last.Phase || p.Fault != last.Fault || !slices.Equal(p.Waits, last.Waits) {
			if err := writeProgress(out, p); err != nil {
				return err
			}
			last = p
		}
		if p.Phase == identity.Steady {
			if p.Signer == before {
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
