package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/policy"
)

// explainFlags are the flags of heddle policy explain.
type explainFlags struct {
	clusterFlags
	all    bool
	files  []string
	output string
}

func explainCommand() *cobra.Command {
	f := explainFlags{output: "text"}
	c := &cobra.Command{
		Use:   "explain CODE [FILE|DIR|-...]",
		Short: "Say which access policy a code such as HDA-1a2b3c4d is of",
		Long: `Say which access policy a code is of: which ConfigMap, key and rule, what it is about, and what to do.

Answers of 403 have the code in their body and in the header x-heddle-access, and the log of the server's sidecar has it
in a line for each call that is refused, or would be. It is looked for in the policies of a namespace of the cluster, as far as you may read its
ConfigMaps, or in files: those of policy validate.`,
		Example: `  heddle policy explain HDA-1a2b3c4d -n shop
  heddle policy explain HDA-none-1a2b3c4d -A -o json
  heddle policy explain HDA-1a2b3c4d deploy/`,
		Args: oneCode,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.explain(cmd.Context(), args[0], args[1:], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	flags := c.Flags()
	f.connect(flags)
	flags.StringVarP(&f.namespace, "namespace", "n", "", "namespace (default: the context's); with files, of what names none")
	flags.BoolVarP(&f.all, "all-namespaces", "A", false, "look in all namespaces")
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "the same as an argument, as with kubectl")
	flags.VarP(checked{&f.output, oneOf("text", "json")}, "output", "o", "text or json")
	f.complete(c)
	return c
}

// oneCode wants a code first.
func oneCode(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return errors.New("want a code, as in the header x-heddle-access of an answer of 403")
	case !regexp.MustCompile(`^HDA-(?:default|none-[0-9a-f]{8}|[0-9a-f]{8}0*)$`).MatchString(args[0]):
		return fmt.Errorf("%q is no code of access policy: want HDA-1a2b3c4d, HDA-none-1a2b3c4d or HDA-default", args[0])
	}
	return nil
}

func (f *explainFlags) explain(ctx context.Context, code string, args []string, stdin io.Reader, out io.Writer) error {
	items, where, err := f.documents(ctx, code, append(args, f.files...), stdin)
	if err != nil {
		return err
	}
	e, ok := policy.Explain(code, items)
	if !ok {
		return fmt.Errorf("%s is of no policy in %s: it may be in another namespace, or the rule has gone or moved since", code, where)
	}
	if f.output == "json" {
		return printJSON(out, e)
	}
	_, err = io.WriteString(out, explanationText(e, where))
	return err
}

// documents gives all policy documents of the files, or without any of the cluster, and says where it looked.
func (f *explainFlags) documents(ctx context.Context, code string, files []string, stdin io.Reader) (items []policy.Item, where string, err error) {
	if len(files) == 0 {
		return f.inCluster(ctx, code)
	}
	for _, arg := range files {
		names, err := policyFiles(arg)
		if err != nil {
			return nil, "", fmt.Errorf("looking for policies: %w", err)
		}
		for _, name := range names {
			data, err := readFile(ctx, name, stdin)
			if err != nil {
				return nil, "", fmt.Errorf("reading policies: %w", err)
			}
			found, _ := policy.ParseFile(name, data, policy.Where{Namespace: f.namespace, System: f.controlPlane})
			items = append(items, found...)
		}
	}
	return items, strings.Join(files, " "), nil
}

// inCluster reads the policies of a namespace, or of all, and for a refusal by default those of the control plane's.
func (f *explainFlags) inCluster(ctx context.Context, code string) (items []policy.Item, where string, err error) {
	client, _, err := f.client()
	if err != nil {
		return nil, "", err
	}
	namespace := f.inNamespace()
	where = "namespace " + namespace + " (-A looks in all)"
	if f.all {
		namespace, where = "", "the cluster"
	}
	read := func(namespace string) error {
		list, err := client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{LabelSelector: policy.Label + "=true"})
		if err != nil {
			return err
		}
		for _, c := range list.Items {
			for _, key := range slices.Sorted(maps.Keys(c.Data)) {
				if !strings.HasSuffix(key, ".yaml") {
					continue
				}
				source := policy.Source{Text: c.Data[key], Namespace: c.Namespace, System: c.Namespace == f.controlPlane}
				document, _ := policy.Parse(source)
				items = append(items, policy.Item{Source: source, Namespace: c.Namespace, ConfigMap: c.Name, Key: key, Document: document})
			}
		}
		return nil
	}
	if err := read(namespace); err != nil {
		return nil, "", fmt.Errorf("list the policies of %s: %w", where, err)
	}
	if namespace != "" && namespace != f.controlPlane && code == policy.DefaultCode {
		if err := read(f.controlPlane); err != nil {
			where += fmt.Sprintf(", nor in %s, which cannot be read (%v)", f.controlPlane, err)
		}
	}
	return items, where, nil
}

// explanationText writes an explanation for people.
func explanationText(e policy.Explanation, where string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", e.Code, what(e))
	for _, d := range e.Documents {
		fmt.Fprintf(&b, "\n%s: %s\n", d.Place, says(d))
		for _, r := range d.Rules {
			fmt.Fprintf(&b, "  %s: %s\n", r.At, r.Matches)
		}
	}
	fmt.Fprintf(&b, "\nhint: %s\n", hint(e, where))
	return b.String()
}

func what(e policy.Explanation) string {
	switch {
	case e.Refusal == policy.RefusedUnmatched:
		return "none of the rules that allow matched"
	case e.Refusal == policy.RefusedByDefault && len(e.Documents) == 0:
		return "the default refused, since no rule to allow speaks of the workload"
	case e.Refusal == policy.RefusedByDefault:
		return "the default refused, since no rule to allow speaks of the workload; a namespace's own goes before the mesh's"
	case e.Documents[0].Broken:
		return "a document of which no version was good denies what it speaks of"
	case e.Documents[0].Action == policy.ActionAllow:
		return "a rule that allows; it refuses nothing"
	}
	return "a rule that denies matched"
}

func says(d policy.ExplainedDocument) string {
	text := map[policy.AccessAction]string{policy.ActionAllow: "allows calls of ", policy.ActionDeny: "denies calls of "}[d.Action]
	if d.Action == "" {
		text = "default " + string(d.Default) + " for "
	}
	text += d.Of
	if d.Mode == policy.ModeAudit {
		text += ", in audit mode: it refuses nothing"
	}
	return text
}

func hint(e policy.Explanation, where string) string {
	const validate = "mend it, or delete it; heddle policy validate finds what is wrong with it"
	switch {
	case e.Refusal == policy.RefusedUnmatched:
		return "if the call is to pass, have a rule of one of these documents match it, or add one; the log of the server's sidecar says who called, and what"
	case e.Refusal == policy.RefusedByDefault && len(e.Documents) == 0:
		return "no document in " + where + " says a default: look in the namespace of the workload that was called, and in the control plane's"
	case e.Refusal == policy.RefusedByDefault:
		return "if the call is to pass, write an Access document for the workload with a rule that allows it"
	case e.Documents[0].Broken:
		return validate
	case e.Documents[0].Action == policy.ActionAllow:
		return "statistics count by it what the rule let through"
	}
	return "deny comes before allow: if the call is to pass, this rule must not match it"
}
