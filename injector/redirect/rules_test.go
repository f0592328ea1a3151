package redirect

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/heddle-mesh/heddle/model"
)

var update = flag.Bool("update", false, "write the golden files anew")

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRulesAreAsTheGoldenFilesShow reads what is skipped from a file, and compares the rules in the words of nft and of
// iptables with what stands below it.
func TestRulesAreAsTheGoldenFilesShow(t *testing.T) {
	paths := must(filepath.Glob("testdata/*.txtar"))
	if len(paths) == 0 {
		t.Fatal("no golden file")
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a := must(txtar.ParseFile(path))
			chains := Rules(optionsOf(t, string(a.Files[0].Data)))
			var jumps []jump
			for _, c := range chains {
				if j, ok := c.jump(); ok {
					jumps = append(jumps, j)
				}
			}
			got := &txtar.Archive{Comment: a.Comment, Files: []txtar.File{
				a.Files[0],
				{Name: "nft", Data: []byte(Text(chains))},
				{Name: "iptables-restore", Data: []byte(restore(chains, true, jumps))},
				{Name: "ip6tables-restore when it ran before", Data: []byte(restore(chains, false, nil))},
			}}
			if *update {
				if err := os.WriteFile(path, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(must(os.ReadFile(path))), string(txtar.Format(got))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// optionsOf reads lines of a flag's name and its value.
func optionsOf(t *testing.T, text string) (o Options) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "skip-inbound-ports":
			o.SkipInboundPorts = must(model.ParsePorts(value))
		case "skip-outbound-ports":
			o.SkipOutboundPorts = must(model.ParsePorts(value))
		case "skip-inbound-cidrs":
			o.SkipInboundCIDRs = must(ParseCIDRs(value))
		case "skip-outbound-cidrs":
			o.SkipOutboundCIDRs = must(ParseCIDRs(value))
		default:
			t.Fatalf("%q is no option", line)
		}
	}
	return o
}

func TestWhatIsToBeSkippedIsReadOrRefused(t *testing.T) {
	if diff := cmp.Diff([]model.Ports{model.OnePort(80), {First: 8000, Last: 8010}}, must(model.ParsePorts(" 80, 8000-8010 "))); diff != "" {
		t.Error(diff)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("fd00::/8")}
	if got := must(ParseCIDRs("10.1.2.3/8,192.0.2.7,fd00::/8")); !cmp.Equal(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
		t.Errorf("want %s, got %s", want, got)
	}
	for _, bad := range []string{"0", "65536", "http", "80,", "80 443", "-1", "1-", "9-8", "0-4", "1-2-3"} {
		if got, err := model.ParsePorts(bad); err == nil {
			t.Errorf("ports %q are taken for %v", bad, got)
		}
	}
	for _, bad := range []string{"10.0.0.0/33", "example.com", "10.0.0.0/8,", "fe80::1%eth0", "::ffff:10.0.0.0/104"} {
		if got, err := ParseCIDRs(bad); err == nil {
			t.Errorf("networks %q are taken for %v", bad, got)
		}
	}
	if got, err := model.ParsePorts(""); got != nil || err != nil {
		t.Errorf("nothing is taken for %v, %v", got, err)
	}
	if err := (Options{SkipInboundPorts: []model.Ports{{}}}).Validate(); err == nil {
		t.Error("port 0 is taken")
	}
	if err := (Options{SkipOutboundCIDRs: []netip.Prefix{{}}}).Validate(); err == nil {
		t.Error("no network is taken for one")
	}
}
