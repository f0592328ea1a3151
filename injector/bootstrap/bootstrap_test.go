package bootstrap_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
)

var update = flag.Bool("update", false, "write what the code gives to testdata")

// cases are the golden files: the least that a sidecar needs, and everything.
func cases() map[string]bootstrap.Options {
	return map[string]bootstrap.Options{
		"least.yaml": {
			ID:     "shop/web-1",
			SDS:    "/run/heddle/sds.sock",
			Server: server("heddle.heddle-system.svc:15010"),
			Admin:  "/run/heddle/admin.sock",
		},
		"all.yaml": {
			ID:        "shop/web-1",
			Cluster:   "web",
			Region:    "eu-north",
			Zone:      "eu-north-1",
			SDS:       "/run/heddle/sds.sock",
			Server:    server("127.0.0.1:15010"),
			Admin:     "/run/heddle/admin.sock",
			AdminMode: 0o660,
			Capture: bootstrap.Capture{
				Bind: netip.MustParsePrefix("127.65.0.0/16"),
				App:  netip.MustParseAddr("127.66.0.1"),
			},
			HealthChecks:  true,
			FlushInterval: 5 * time.Second,
		},
	}
}

func server(address string) bootstrap.Server {
	return bootstrap.Server{Address: address, ID: "spiffe://cluster.local/ns/heddle-system/sa/heddle"}
}

func TestBootstrapIsTheGoldenOne(t *testing.T) {
	for name, options := range cases() {
		t.Run(name, func(t *testing.T) {
			got := render(t, options)
			path := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(path, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-want +got); run with -update if this is meant:\n%s", diff)
			}
		})
	}
}

func render(t *testing.T, o bootstrap.Options) []byte {
	t.Helper()
	b, err := bootstrap.New(o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := bootstrap.YAML(b)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestIncompleteOptionsAreRefusedTogether(t *testing.T) {
	_, err := bootstrap.New(bootstrap.Options{
		ID:      "web-1",
		SDS:     "/" + strings.Repeat("x", 107),
		Capture: bootstrap.Capture{App: netip.MustParseAddr("127.66.0.1")},
	})
	for _, want := range []string{
		`node id "web-1": want namespace/pod`,
		"108 bytes, a unix socket's path at most 107",
		"admin socket: no path given",
		"capture: want both",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestAServerIsComplete(t *testing.T) {
	good := bootstrap.Options{
		ID: "shop/web-1", SDS: "/run/sds.sock", Admin: "/run/admin.sock", Server: server("[::1]:15012"),
	}
	for name, c := range map[string]struct {
		change func(*bootstrap.Options)
		want   string // in the error; empty: none
	}{
		"an IPv6 address":   {func(*bootstrap.Options) {}, ""},
		"no port":           {func(o *bootstrap.Options) { o.Server.Address = "heddle" }, "want host:port"},
		"port 0":            {func(o *bootstrap.Options) { o.Server.Address = "heddle:0" }, "want a port"},
		"no host":           {func(o *bootstrap.Options) { o.Server.Address = ":15012" }, "want host:port"},
		"no ID":             {func(o *bootstrap.Options) { o.Server.ID = "" }, "begins with spiffe://"},
		"no secrets":        {func(o *bootstrap.Options) { o.SDS = "" }, "SDS socket: no path given"},
		"a long SDS socket": {func(o *bootstrap.Options) { o.SDS = "/" + strings.Repeat("x", 107) }, "108 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			_, err := bootstrap.New(o)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestCallerIsWrittenWithBothEndsOfEveryPart(t *testing.T) {
	got := bootstrap.Caller{
		Namespace: "shop",
		Account:   "web",
		Labels:    map[string]string{"version": "v1", "app": "web"},
	}.Environment()
	if want := "HEDDLE_CALLER=ns=shop;sa=web;l=app=web;l=version=v1;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestALabelCannotPassForAnAccount(t *testing.T) {
	got := bootstrap.Caller{Namespace: "shop", Account: "web", Labels: map[string]string{"a": "b;sa=admin"}}.String()
	if want := "ns=shop;sa=web;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTheAgentsVersionIsShownBesideWhatItBinds(t *testing.T) {
	for name, o := range cases() {
		had := o
		o.Agent = "v1.2.3"
		b, err := bootstrap.New(o)
		if err != nil {
			t.Fatal(err)
		}
		fields := b.Node.Metadata.Fields
		if got := fields["dev.heddle.agent"].GetStringValue(); got != "v1.2.3" {
			t.Errorf("%s: the agent is %q", name, got)
		}
		if binds := fields["dev.heddle.capture"] != nil; binds == had.Capture.IsZero() {
			t.Errorf("%s: it says what it binds: %v", name, binds)
		}
	}
}
