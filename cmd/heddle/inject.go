package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/injector"
	"github.com/heddle-mesh/heddle/injector/manifest"
)

// injectFlags are the flags of heddle inject.
type injectFlags struct {
	files     []string
	namespace string
	manual    bool
	seed      string
	sidecar   injector.Options
}

func injectCommand() *cobra.Command {
	var f injectFlags
	c := &cobra.Command{
		Use:   "inject FILE|DIR|-...",
		Short: "Ask for sidecars in manifests; needs no cluster",
		Long: `Ask for sidecars in manifests; needs no cluster.

Prints the manifests with the annotation heddle.dev/inject: enabled on each pod template and Pod, and the label of that name
on each Namespace; all else stays byte for byte as it is. The sidecar itself is put in by the cluster when a pod is made, so
a Pod that runs already has to be replaced. What became of each object goes to standard error. If something would be refused
later, it is refused now, and nothing is printed.

With --manual the sidecar itself is put into the manifests, as the cluster would do it.`,
		Example: `  heddle inject web.yaml | kubectl apply -f -
  kubectl get deployment -n shop -o yaml | heddle inject - | kubectl apply -f -
  kubectl get pod ubuntu -o yaml | heddle inject - | kubectl replace --force -f -`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := c.Flags()
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "the same as an argument, as with kubectl")
	flags.StringVarP(&f.namespace, "namespace", "n", "default", "namespace of what names none")
	flags.StringVar(&f.sidecar.System, "heddle-namespace", controlplane.DefaultNamespace, "namespace of the control plane, where nothing is injected")
	flags.BoolVar(&f.manual, "manual", false, "put the sidecar itself in, not the word that asks for it; needs --proxy-image")
	flags.StringVar(&f.sidecar.Image, "proxy-image", "", "image of heddle-proxy; with --manual")
	flags.StringVar(&f.sidecar.ControlPlane, "control-plane", "", "host:port of the control plane; with --manual (default heddle.HEDDLE-NAMESPACE.svc:15010)")
	flags.StringVar(&f.sidecar.Signer, "signer", "", "host:port of the signer; with --manual (default heddle-signer.HEDDLE-NAMESPACE.svc:15012)")
	flags.StringVar(&f.sidecar.TrustDomain, "trust-domain", "cluster.local", "trust domain of the mesh; with --manual")
	flags.StringVar(&f.seed, "seed", "", "secret that the path of probes is made of, for the same output each time; with --manual (default: random)")
	return c
}

func (f *injectFlags) run(cmd *cobra.Command, args []string) error {
	j := injectJob{
		args: append(args, f.files...), in: cmd.InOrStdin(), out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), verb: "inject", done: "injected",
	}
	if f.manual && f.sidecar.Image == "" {
		return errors.New("--manual needs --proxy-image, the image that your control plane puts into pods")
	}
	if !f.manual {
		for _, name := range []string{"proxy-image", "control-plane", "signer", "trust-domain", "seed"} {
			if cmd.Flags().Changed(name) {
				return fmt.Errorf("--%s: without --manual nothing but an annotation is written; give both, or neither", name)
			}
		}
	}
	f.sidecar.Seed = f.seed
	if f.seed == "" {
		f.sidecar.Seed = rand.Text()
	}
	return j.run(cmd.Context(), func(file *manifest.File, all manifest.Namespaces) ([]byte, []manifest.Report, error) {
		o := manifest.Options{Namespace: f.namespace, Namespaces: all, System: f.sidecar.System}
		if f.manual {
			return file.Render(o, f.sidecar)
		}
		return file.Inject(o)
	})
}

func uninjectCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "uninject FILE|DIR|-...",
		Short: "Take out what heddle inject put in",
		Long: `Take out what heddle inject put in: the manifests come out byte for byte as they were without it. If they asked for a sidecar
before heddle inject, which left them unchanged then, that word goes too, for nothing tells whose it is. What says disabled
stays. A Pod that runs has to be replaced to lose its sidecar.`,
		Example: `  heddle uninject web.yaml | kubectl apply -f -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			j := injectJob{args: append(args, files...), in: cmd.InOrStdin(), out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), verb: "uninject", done: "uninjected"}
			return j.run(cmd.Context(), func(f *manifest.File, _ manifest.Namespaces) ([]byte, []manifest.Report, error) { return f.Uninject() })
		},
	}
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "the same as an argument, as with kubectl")
	return c
}

// injectJob is one call of inject or uninject.
type injectJob struct {
	args       []string
	in         io.Reader
	out, notes io.Writer
	verb, done string
}

// run changes all files that were named, and prints them if nothing went wrong in any of them.
func (j injectJob) run(ctx context.Context, change func(*manifest.File, manifest.Namespaces) ([]byte, []manifest.Report, error)) error {
	files, err := j.read(ctx)
	if err != nil {
		return err
	}
	all := manifest.Namespaces{}
	for _, f := range files {
		if err := all.Add(f); err != nil {
			return err
		}
	}
	var texts [][]byte
	var reports []manifest.Report
	var failed []error
	for _, f := range files {
		text, some, err := change(f, all)
		texts, reports, failed = append(texts, text), append(reports, some...), append(failed, err)
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if err := j.tell(reports); err != nil {
		return err
	}
	if _, err := j.out.Write(joinTexts(texts)); err != nil {
		return fmt.Errorf("print the manifests: %w", err)
	}
	return nil
}

// read parses every file that the arguments name.
func (j injectJob) read(ctx context.Context) ([]*manifest.File, error) {
	if len(j.args) == 0 {
		return nil, errors.New("no files given: name files or folders, or - for standard input")
	}
	var files []*manifest.File
	for _, arg := range j.args {
		if strings.HasPrefix(arg, "http://") || strings.HasPrefix(arg, "https://") {
			return nil, fmt.Errorf("%s: nothing is fetched from the net; look at it, and then: curl -sSL %s | heddle %s -", arg, arg, j.verb)
		}
		names, err := manifestFiles(arg)
		if err != nil {
			return nil, fmt.Errorf("looking for manifests: %w", err)
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("no *.yaml, *.yml or *.json in %s", arg)
		}
		for _, name := range names {
			data, err := readFile(ctx, name, j.in)
			if err != nil {
				return nil, fmt.Errorf("reading manifests: %w", err)
			}
			f, err := manifest.Parse(name, data)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	return files, nil
}

// manifestFiles gives the file that was named, or the manifests in the folder that was.
func manifestFiles(name string) ([]string, error) { return namedFiles(name, ".yaml", ".yml", ".json") }

// joinTexts makes one text of several, each of which begins a document.
func joinTexts(texts [][]byte) []byte {
	var out bytes.Buffer
	for i, text := range texts {
		if i > 0 {
			if n := out.Len(); n > 0 && out.Bytes()[n-1] != '\n' {
				out.WriteByte('\n')
			}
			if !bytes.HasPrefix(text, []byte("---")) {
				out.WriteString("---\n")
			}
		}
		out.Write(text)
	}
	return out.Bytes()
}

// tell says what became of each object.
func (j injectJob) tell(reports []manifest.Report) error {
	var b strings.Builder
	pods := 0
	for _, r := range reports {
		switch r.Change {
		case manifest.Changed:
			fmt.Fprintf(&b, "%s %s\n", r, j.done)
			if r.Kind == "Pod" {
				pods++
			}
		case manifest.Skipped:
			fmt.Fprintf(&b, "%s skipped: %s\n", r, r.Reason)
		default:
			fmt.Fprintf(&b, "%s unchanged\n", r)
		}
		for _, w := range r.Warnings {
			fmt.Fprintf(&b, "%s: warning: %s\n", r, w)
		}
	}
	if pods > 0 {
		fmt.Fprintf(&b, "\nA Pod that runs already must be replaced, for sidecars come and go with new pods only: heddle %s ... | kubectl replace --force -f -\n", j.verb)
	}
	if _, err := io.WriteString(j.notes, b.String()); err != nil {
		return fmt.Errorf("print what became of the objects: %w", err)
	}
	return nil
}
