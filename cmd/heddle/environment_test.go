package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// variables are those of heddle serve: for each flag one good value from the environment, another for the command line,
// and one that is refused, if any is.
var variables = []struct{ flag, variable, value, given, bad string }{
	{"manifests", "HEDDLE_MANIFESTS", "/srv/a", "/srv/b", ""},
	{"state", "HEDDLE_STATE", "/srv/a", "/srv/b", ""},
	{"kubeconfig", "HEDDLE_KUBECONFIG", "/srv/a", "/srv/b", ""},
	{"context", "HEDDLE_CONTEXT", "a", "b", ""},
	{"namespace", "HEDDLE_NAMESPACE", "a", "b", ""},
	{"socket", "HEDDLE_SOCKET", "/run/a", "/run/b", ""},
	{"listen", "HEDDLE_LISTEN", "", "127.0.0.1:2", "127.0.0.1"},
	{"sidecars", "HEDDLE_SIDECARS", "127.0.0.1:1", "127.0.0.1:2", "nowhere"},
	{"signer", "HEDDLE_SIGNER", "127.0.0.1:1", "127.0.0.1:2", "nowhere"},
	{"api", "HEDDLE_API", "127.0.0.1:1", "127.0.0.1:2", "nowhere"},
	{"role", "HEDDLE_ROLE", "server", "signer", "leader"},
	{"token-file", "HEDDLE_TOKEN_FILE", "/srv/a", "/srv/b", ""},
	{"bundle-file", "HEDDLE_BUNDLE_FILE", "/srv/a", "/srv/b", ""},
	{"webhooks", "HEDDLE_WEBHOOKS", "127.0.0.1:1", "127.0.0.1:2", "nowhere"},
	{"proxy-image", "HEDDLE_PROXY_IMAGE", "a:1", "b:1", ""},
	{"proxy-pull-policy", "HEDDLE_PROXY_PULL_POLICY", "Always", "Never", "Sometimes"},
	{"proxy-defaults", "HEDDLE_PROXY_DEFAULTS", "heddle.dev/drain-time=9s", "heddle.dev/drain-time=8s", "heddle.dev/drain-time"},
	{"trust-domain", "HEDDLE_TRUST_DOMAIN", "a.example", "b.example", "spiffe://a.example"},
	{"certificate-lifetime", "HEDDLE_CERTIFICATE_LIFETIME", "1h0m0s", "2h0m0s", "long"},
	{"ca-chain", "HEDDLE_CA_CHAIN", "/srv/a", "/srv/b", ""},
	{"ca-key", "HEDDLE_CA_KEY", "/srv/a", "/srv/b", ""},
	{"ca-anchors", "HEDDLE_CA_ANCHORS", "/srv/a", "/srv/b", ""},
	{"ca-jwt-key", "HEDDLE_CA_JWT_KEY", "/srv/a", "/srv/b", ""},
	{"drain", "HEDDLE_DRAIN", "7s", "8s", "soon"},
	{"log-level", "HEDDLE_LOG_LEVEL", "debug", "error", "loud"},
	{"log-format", "HEDDLE_LOG_FORMAT", "console", "json", "xml"},
}

// served gives the flags of heddle serve after a command line and an environment.
func served(t *testing.T, environment map[string]string, args ...string) (*pflag.FlagSet, error) {
	t.Helper()
	flags := serveCommand().Flags()
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags, fromEnvironment(flags, func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
}

func TestEveryFlagOfServeCanBeGivenByTheEnvironment(t *testing.T) {
	listed := map[string]bool{}
	for _, v := range variables {
		listed[v.flag] = true
		t.Run(v.flag, func(t *testing.T) {
			flags, err := served(t, map[string]string{v.variable: v.value})
			if err != nil {
				t.Fatal(err)
			}
			if got := flags.Lookup(v.flag).Value.String(); got != v.value {
				t.Errorf("%s=%s makes it %q", v.variable, v.value, got)
			}
			flags, err = served(t, map[string]string{v.variable: v.value}, "--"+v.flag, v.given)
			if err != nil {
				t.Fatal(err)
			}
			if got := flags.Lookup(v.flag).Value.String(); got != v.given {
				t.Errorf("%s=%s and --%s %s make it %q", v.variable, v.value, v.flag, v.given, got)
			}
			if v.bad == "" {
				return
			}
			if _, err := served(t, map[string]string{v.variable: v.bad}); err == nil || !strings.Contains(err.Error(), v.variable) {
				t.Errorf("%s=%s: %v; want an error that names the variable", v.variable, v.bad, err)
			}
			if _, err := served(t, map[string]string{v.variable: v.bad}, "--"+v.flag, v.given); err != nil {
				t.Errorf("%s=%s is looked at though --%s is given: %v", v.variable, v.bad, v.flag, err)
			}
		})
	}
	serveCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if !listed[f.Name] {
			t.Errorf("--%s is not in the table", f.Name)
		}
	})
}

func TestAllBadVariablesAreNamedAtOnce(t *testing.T) {
	_, err := served(t, map[string]string{"HEDDLE_DRAIN": "soon", "HEDDLE_LOG_LEVEL": "loud"})
	if err == nil || !strings.Contains(err.Error(), "HEDDLE_DRAIN") || !strings.Contains(err.Error(), "HEDDLE_LOG_LEVEL") ||
		!strings.Contains(err.Error(), "want debug, info, warn or error") {
		t.Errorf("got %v", err)
	}
}
