package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/check"
	"github.com/heddle-mesh/heddle/check/gather"
	"github.com/heddle-mesh/heddle/kube"
)

// latestRelease is who tells of the newest release.
const latestRelease = "https://api.github.com/repos/heddle-mesh/heddle/releases/latest"

// checkFlags are the flags of heddle check.
type checkFlags struct {
	clusterFlags
	pre, proxies bool
	wait         time.Duration
	at, output   string
	latest       string
}

func checkCommand() *cobra.Command {
	var f checkFlags
	c := &cobra.Command{
		Use:   "check",
		Short: "See whether Heddle can be installed, or works",
		Long: `See whether Heddle works in a cluster; with --pre, before it is installed, whether it can be; with --proxy whether the
sidecars work as well. Each check is marked √ if it passes, ‼ if it will not for long, × if it fails, with the reason and what
to do next. The exit status is 1 if any fails.

Whether webhooks answer is asked of the API server, by dry runs of a Pod and a ConfigMap, which make nothing.

With --at it says which anchors and issuers will have expired by then. Certificates that are renewed by themselves are judged
by their own lifetimes, at present.`,
		Example: `  heddle check --pre && heddle install | kubectl apply -f - && heddle check --wait 2m
  heddle check --proxy -n shop
  heddle check --at +45d -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := c.Flags()
	f.connect(flags)
	flags.StringVarP(&f.namespace, "namespace", "n", "", "whose sidecars, with --proxy; where the injector is asked, or with --pre whether pods may be injected (default: where injection is on)")
	flags.BoolVar(&f.pre, "pre", false, "see whether it can be installed")
	flags.BoolVar(&f.proxies, "proxy", false, "look at sidecars too")
	flags.DurationVar(&f.wait, "wait", 0, "look again, for so long, until nothing fails")
	flags.StringVar(&f.at, "at", "", "a time to look ahead to: +45d, +12h, 2027-01-31 or RFC 3339 (default: now)")
	flags.StringVar(&f.latest, "latest", latestRelease, "URL that tells of the latest release; empty to ask nobody")
	f.output = "table"
	flags.VarP(checked{&f.output, oneOf("table", "json")}, "output", "o", "table or json")
	c.MarkFlagsMutuallyExclusive("pre", "proxy")
	f.complete(c)
	return c
}

// run looks until nothing fails or the time is over, and prints what came out last.
func (f *checkFlags) run(ctx context.Context, out, stderr io.Writer) error {
	now := time.Now()
	at, err := parseAt(f.at, now)
	if err != nil {
		return err
	}
	r, err := f.until(ctx, stderr, now.Add(f.wait), at.Sub(now))
	if err != nil {
		return err
	}
	if f.output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		paint := check.Plain
		if colourful(out) {
			paint = check.Coloured
		}
		err = r.Write(out, paint)
	}
	if err != nil {
		return fmt.Errorf("print the results: %w", err)
	}
	if !r.Success {
		return errSilent
	}
	return nil
}

// until looks again each second while something fails. On a terminal it says what it waits for.
func (f *checkFlags) until(ctx context.Context, stderr io.Writer, end time.Time, ahead time.Duration) (check.Report, error) {
	latest, kubectl := once(f.latestVersion), once(kubectlVersion) // neither changes meanwhile
	for said := ""; ; {
		r := f.look(ctx, ahead, latest, kubectl)
		failed := r.Failures()
		if len(failed) == 0 || !time.Now().Before(end) {
			return r, nil
		}
		if failed[0].Name == "client" { // there is no kubeconfig, and nobody makes one
			return r, nil
		}
		if what := failed[0].Description; what != said && colourful(stderr) {
			fmt.Fprintf(stderr, "waiting: %s\n", what)
			said = what
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return r, errors.New("interrupted while waiting for: " + failed[0].Description)
		}
	}
}

type asked func(context.Context) (string, error)

// once asks one time, and remembers the answer.
func once(ask asked) asked {
	var answer string
	var err error
	done := false
	return func(ctx context.Context) (string, error) {
		if !done {
			answer, err = ask(ctx)
			done = true
		}
		return answer, err
	}
}

func (f *checkFlags) look(ctx context.Context, ahead time.Duration, latest, kubectl asked) check.Report {
	config, err := kube.ClientConfig(f.options())
	o := gather.Options{Config: config, ConfigErr: err, ControlPlane: f.controlPlane, Namespace: f.namespace, Latest: latest, Kubectl: kubectl}
	if f.pre {
		o.Mode = check.Pre
	}
	if f.proxies {
		o.DataPlane = check.WithDataPlane
	}
	facts := gather.Facts(ctx, o)
	now := time.Now().UTC()
	return check.Evaluate(facts, check.Options{
		Mode: o.Mode, DataPlane: o.DataPlane, Now: now, At: now.Add(ahead), Version: buildinfo.Get().Version,
	})
}

// latestVersion asks for the newest release; nobody if it is a look beforehand.
func (f *checkFlags) latestVersion(ctx context.Context) (string, error) {
	if f.latest == "" || f.pre {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.latest, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var release struct {
		Tag string `json:"tag_name"`
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", f.latest, answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&release); err != nil || release.Tag == "" {
		return "", fmt.Errorf("%s does not name a release", f.latest)
	}
	return release.Tag, nil
}

// kubectlVersion is that of the kubectl on the path; empty if there is none.
func kubectlVersion(ctx context.Context) (string, error) {
	path, err := exec.LookPath("kubectl")
	if err != nil {
		return "", nil // that there is none is an answer
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	text, err := exec.CommandContext(ctx, path, "version", "--client", "-o", "json").Output()
	if err != nil {
		return "", err
	}
	var v struct {
		Client struct {
			Version string `json:"gitVersion"`
		} `json:"clientVersion"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return "", fmt.Errorf("read what %s prints: %w", path, err)
	}
	return v.Client.Version, nil
}
