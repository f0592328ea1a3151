package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/controlplane/api"
)

func cliDocument(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sampleProxies are two sidecars, one of which refused something.
func sampleProxies(now time.Time) []api.Proxy {
	types := func(version string) []api.Type {
		return []api.Type{
			{Type: "cluster", Resources: 14, Version: "5f2a9b1c04de", Synced: true}, {Type: "endpoints", Resources: 9, Version: "77e01a2b3c4d", Synced: true},
			{Type: "listener", Resources: 11, Version: version, Synced: true}, {Type: "route", Resources: 10, Version: "c0ffee123456", Synced: true},
		}
	}
	proxies := []api.Proxy{
		{Namespace: "shop", Pod: "cart-6f7d8c9b5-4kq2z", Envoy: "1.40.0", Agent: "v0.3.0", Synced: true, Types: types("0a1b2c3d4e5f"), Since: now.Add(-12 * time.Minute),
			Node: "node-a", Replica: "pod heddle-system/heddle-1", Certificate: api.Certificate{NotAfter: now.Add(19*time.Hour + 20*time.Minute)}},
		{Namespace: "shop", Pod: "web-7d4b9c5f6-x2x9z", Envoy: "1.40.0", Agent: "v0.3.0", Types: types("99aabbccddee"), Since: now.Add(-3 * time.Hour),
			Node: "node-b", Replica: "pod heddle-system/heddle-2", Certificate: api.Certificate{NotAfter: now.Add(14 * time.Hour)}},
	}
	proxies[1].Types[2].Synced = false
	proxies[1].Types[2].Refused = []api.Nack{{Resource: "in/10.10.1.7:8080", Version: "1f2e3d4c", Reason: "Error adding/updating listener(s) in/10.10.1.7:8080: no such filter"}}
	return proxies
}

func TestTheDocumentShowsTheTableOfSidecarsThatIsPrinted(t *testing.T) {
	now := time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)
	printed := proxyTable(sampleProxies(now), now, false)
	if !strings.Contains(cliDocument(t), "```text\n"+printed+"```") {
		t.Errorf("docs/cli.md does not show this:\n%s", printed)
	}
	wide := proxyTable(sampleProxies(now), now, true)
	for _, want := range []string{"5f2a9b/77e01a/0a1b2c/c0ffee", "heddle-system/heddle-2", "node-a", "v0.3.0"} {
		if !strings.Contains(wide, want) {
			t.Errorf("the wide table lacks %s:\n%s", want, wide)
		}
	}
}

// Commands whose flags are the document's affair.
func documented() []string {
	return []string{"check", "proxy status", "proxy config", "proxy logs", "policy explain", "version"}
}

func TestEveryCommandAndItsFlagsAreInTheDocument(t *testing.T) {
	text := cliDocument(t)
	root := rootCommand()
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if !strings.Contains(text, "`heddle "+c.Name()) {
			t.Errorf("docs/cli.md does not tell of heddle %s", c.Name())
		}
	}
	for _, path := range documented() {
		c, _, err := root.Find(strings.Fields(path))
		if err != nil {
			t.Fatal(err)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) { flagInDocument(t, text, c, f) })
	}
}

func flagInDocument(t *testing.T, text string, c *cobra.Command, f *pflag.Flag) {
	t.Helper()
	if strings.Contains(text, "--"+f.Name) || f.Shorthand != "" && regexp.MustCompile("`?-"+f.Shorthand+"\\b").MatchString(text) || f.Name == "help" {
		return
	}
	t.Errorf("docs/cli.md does not tell of --%s of %s", f.Name, c.CommandPath())
}
