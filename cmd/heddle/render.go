package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/deploy"
)

// render gives the objects of a release, once they say nothing that the control plane would refuse when it starts: whoever
// installs reads it here, and not in the log of a pod that does not come up. What people should know goes to w.
func render(r deploy.Release, w io.Writer) (string, error) {
	text, err := deploy.Render(r)
	if err != nil {
		return "", err
	}
	programs, err := deploy.Programs(text)
	if err != nil {
		return "", err
	}
	var errs []error
	for _, p := range programs {
		if err := wouldServe(p, r.Namespace); err != nil {
			errs = append(errs, fmt.Errorf("with these values Deployment %s would not start: %w", p.Deployment, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("%w; docs/install.md lists what each value may be", err)
	}
	if r.Namespace == "default" {
		_, err = fmt.Fprintf(w, "heddle: the control plane goes into namespace default, and so do the rules of that namespace: Pod Security, and no sidecars; %s is its usual place\n",
			deploy.DefaultNamespace)
	}
	return text, err
}

// wouldServe reads what a Deployment tells heddle serve as that does.
func wouldServe(p deploy.Program, namespace string) error {
	var f serveFlags
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	f.register(flags)
	if err := flags.Parse(p.Args[1:]); err != nil {
		return err
	}
	lookup := func(name string) (string, bool) { value, ok := p.Environment[name]; return value, ok }
	if err := fromEnvironment(flags, lookup); err != nil {
		return err
	}
	if f.role != roleServer {
		return nil
	}
	_, err := f.webhooks.sidecars(f.trustDomain, namespace)
	return err
}
