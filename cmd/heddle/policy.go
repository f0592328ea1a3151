package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/policy"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Look at policies",
		Args:  cobra.NoArgs,
		// Without it cobra prints help and succeeds, whatever the verb.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(validateCommand(), explainCommand())
	return c
}

func validateCommand() *cobra.Command {
	var files []string
	var where policy.Where
	var output string
	c := &cobra.Command{
		Use:   "validate FILE|DIR|-...",
		Short: "Find every problem in policy files; needs no cluster",
		Long: `Find every problem in policy files; needs no cluster.

Takes files of policy ConfigMaps or of bare policy documents, folders of *.yaml and *.yml, and - for standard input;
other Kubernetes objects are passed over. Problems go to standard error as a compiler writes them, each with a code that
docs/problems.md explains. Fails if one of them is an error; warnings do not count.`,
		Example: `  heddle policy validate deploy/
  kubectl get configmap -A -l heddle.dev/policy=true -o yaml | heddle policy validate -
  heddle policy validate -o json policies.yaml | jq .problems`,
		RunE: func(cmd *cobra.Command, args []string) error {
			write, err := reportWriter(output)
			if err != nil {
				return err
			}
			report, err := validate(cmd.Context(), append(args, files...), cmd.InOrStdin(), where)
			if err != nil {
				return err
			}
			if err := write(report, cmd.OutOrStdout(), cmd.ErrOrStderr()); err != nil {
				return fmt.Errorf("writing the report: %w", err)
			}
			if report.Errors > 0 {
				return errSilent
			}
			return nil
		},
	}
	flags := c.Flags()
	flags.StringArrayVarP(&files, "filename", "f", nil, "the same as an argument, as with kubectl")
	flags.StringVarP(&where.Namespace, "namespace", "n", "", "namespace of what names none")
	flags.StringVar(&where.System, "control-plane-namespace", controlplane.DefaultNamespace, "the namespace where Mesh documents are good")
	flags.StringVarP(&output, "output", "o", "text", "text or json")
	return c
}

// report is what validation found, as -o json writes it.
type report struct {
	Files     int              `json:"files"`
	Documents []reportDocument `json:"documents"`
	Problems  []policy.Problem `json:"problems"`
	Errors    int              `json:"errors"`
	Warnings  int              `json:"warnings"`
}

type reportDocument struct {
	File      string      `json:"file"`
	Line      int         `json:"line"`
	Namespace string      `json:"namespace,omitempty"`
	ConfigMap string      `json:"configMap,omitempty"`
	Key       string      `json:"key,omitempty"`
	Valid     bool        `json:"valid"`
	Kind      policy.Kind `json:"kind,omitempty"` // of a valid document
	Hash      string      `json:"hash,omitempty"`
}

// validate looks at every file that the arguments name.
func validate(ctx context.Context, args []string, stdin io.Reader, where policy.Where) (*report, error) {
	if len(args) == 0 {
		return nil, errors.New("no files given: name files or folders, or - for standard input")
	}
	r := &report{Documents: []reportDocument{}, Problems: []policy.Problem{}}
	var items []policy.Item
	for _, arg := range args {
		names, err := policyFiles(arg)
		if err != nil {
			return nil, fmt.Errorf("looking for policies: %w; name files or folders, or - for standard input", err)
		}
		for _, name := range names {
			data, err := readFile(ctx, name, stdin)
			if err != nil {
				return nil, fmt.Errorf("reading policies: %w", err)
			}
			found, problems := policy.ParseFile(name, data, where)
			items = append(items, found...)
			r.Problems = append(r.Problems, problems...)
			r.Files++
		}
	}
	r.Problems = append(r.Problems, policy.Together(items)...)
	if len(items) == 0 && len(r.Problems) == 0 {
		return nil, fmt.Errorf("no policy in %s: policies are ConfigMaps labelled %s: \"true\", or documents that begin with their kind", count(r.Files, "file"), policy.Label)
	}
	for _, it := range items {
		r.Documents = append(r.Documents, describe(it))
	}
	for _, p := range r.Problems {
		if p.Severity == policy.Error {
			r.Errors++
		} else {
			r.Warnings++
		}
	}
	return r, nil
}

func describe(it policy.Item) reportDocument {
	d := reportDocument{File: it.Source.File, Line: it.Line, Namespace: it.Namespace, ConfigMap: it.ConfigMap, Key: it.Key}
	if it.ConfigMap != "" {
		d.Line = it.Source.Line
	}
	if it.Document != nil {
		d.Valid, d.Kind, d.Hash = true, it.Document.Kind, it.Document.Hash
	}
	return d
}

// policyFiles gives the file that was named, or the YAML files in the folder that was.
func policyFiles(name string) ([]string, error) { return namedFiles(name, ".yaml", ".yml") }

// reportWriter gives the way to write a report in a format.
func reportWriter(format string) (func(r *report, stdout, stderr io.Writer) error, error) {
	switch format {
	case "text":
		return writeText, nil
	case "json":
		return func(r *report, stdout, _ io.Writer) error {
			enc := json.NewEncoder(stdout)
			enc.SetIndent("", "  ")
			enc.SetEscapeHTML(false)
			return enc.Encode(r)
		}, nil
	}
	return nil, fmt.Errorf("--output %q: want text or json", format)
}

func writeText(r *report, stdout, stderr io.Writer) error {
	for _, p := range r.Problems {
		if _, err := fmt.Fprintln(stderr, p); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(stdout, "%s in %s: %s, %s\n", count(len(r.Documents), "document"), count(r.Files, "file"),
		count(r.Errors, "error"), count(r.Warnings, "warning"))
	return err
}

// count writes a number of things: no errors, 1 error, 2 errors.
func count(n int, thing string) string {
	switch n {
	case 0:
		return "no " + thing + "s"
	case 1:
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
