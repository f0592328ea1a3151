package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/kube"
)

// proxyTable writes sidecars for people, and under them what they refused.
func proxyTable(proxies []api.Proxy, now time.Time, wide bool) string {
	var b, refusals strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row(w, []string{"POD", "SYNCED", "CLUSTERS", "ENDPOINTS", "LISTENERS", "ROUTES", "CERTIFICATE", "ENVOY"},
		pick(wide, "AGENT", "VERSIONS (C/E/L/R)", "CONNECTED", "NODE", "REPLICA"))
	for _, p := range proxies {
		counts, versions := map[string]string{}, map[string]string{}
		for _, t := range p.Types {
			counts[t.Type], versions[t.Type] = countOf(t), t.Version
			for _, r := range t.Refused {
				fmt.Fprintf(&refusals, "× %s refused %s %s (version %s): %s\n", p.Name(), t.Type, r.Resource, r.Version, r.Reason)
			}
		}
		row(w, []string{p.Name(), yesNo(p.Synced), dash(counts["cluster"]), dash(counts["endpoints"]), dash(counts["listener"]), dash(counts["route"]),
			validity(p.Certificate, now), dash(p.Envoy)},
			pick(wide, dash(p.Agent), fmt.Sprintf("%.6s/%.6s/%.6s/%.6s", versions["cluster"], versions["endpoints"], versions["listener"], versions["route"]),
				span(now.Sub(p.Since)), dash(p.Node), dash(strings.TrimPrefix(p.Replica, "pod "))))
	}
	w.Flush() // into memory: it cannot fail
	if refusals.Len() > 0 {
		b.WriteString("\n" + refusals.String())
	}
	return b.String()
}

func countOf(t api.Type) string {
	text := fmt.Sprint(t.Resources)
	if !t.Synced {
		text += "…"
	}
	if len(t.Refused) > 0 {
		text += fmt.Sprintf(" ×%d", len(t.Refused))
	}
	return text
}

func validity(c api.Certificate, now time.Time) string {
	switch {
	case c.NotAfter.IsZero():
		return "-"
	case !now.Before(c.NotAfter):
		return "expired " + span(now.Sub(c.NotAfter)) + " ago"
	}
	return "for " + span(c.NotAfter.Sub(now))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// envoyMessage is what tables show of Envoy's messages.
type envoyMessage struct {
	Address      address `json:"address"`
	VirtualHosts []struct {
		Name    string            `json:"name"`
		Domains []string          `json:"domains"`
		Routes  []json.RawMessage `json:"routes"`
	} `json:"virtual_hosts"`
	Type      string `json:"type"`
	Endpoints []struct {
		Locality struct {
			Zone string `json:"zone"`
		} `json:"locality"`
		Endpoints []struct {
			Health   string `json:"health_status"`
			Endpoint struct {
				Address address `json:"address"`
			} `json:"endpoint"`
		} `json:"lb_endpoints"`
	} `json:"endpoints"`
}

type address struct {
	Socket struct {
		Address string `json:"address"`
		Port    int    `json:"port_value"`
	} `json:"socket_address"`
}

func (a address) String() string {
	if a.Socket.Address == "" {
		return "-"
	}
	return fmt.Sprintf("%s:%d", a.Socket.Address, a.Socket.Port)
}

// configTable writes what a sidecar is served, a table for each kind.
func configTable(c api.Config) (string, error) {
	var b strings.Builder
	if c.Connected {
		fmt.Fprintf(&b, "Pod %s/%s is served:\n", c.Namespace, c.Pod)
	} else {
		fmt.Fprintf(&b, "Pod %s/%s is not connected; it would be served:\n", c.Namespace, c.Pod)
	}
	for _, kind := range []struct{ name, title, columns string }{
		{"listener", "Listeners", "NAME\tADDRESS\tVERSION"},
		{"route", "Routes", "NAME\tDOMAINS\tROUTES\tVERSION"},
		{"cluster", "Clusters", "NAME\tTYPE\tVERSION"},
		{"endpoints", "Endpoints", "CLUSTER\tADDRESS\tHEALTH\tZONE\tVERSION"},
	} {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		first := true
		for _, r := range c.Resources {
			if r.Type != kind.name {
				continue
			}
			if first {
				section(w, kind.title)
				fmt.Fprintln(w, kind.columns)
				first = false
			}
			var m envoyMessage
			if err := json.Unmarshal(r.Body, &m); err != nil {
				return "", fmt.Errorf("read %s %s as the control plane gives it: %w", r.Type, r.Name, err)
			}
			m.write(w, r)
		}
		w.Flush() // into memory: it cannot fail
	}
	return b.String(), nil
}

// write writes the rows of one resource.
func (m envoyMessage) write(w *tabwriter.Writer, r api.Resource) {
	switch r.Type {
	case "listener":
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, m.Address, r.Version)
	case "route":
		for _, h := range m.VirtualHosts {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", r.Name, strings.Join(h.Domains, ","), len(h.Routes), r.Version)
		}
	case "cluster":
		kind := m.Type
		if kind == "" {
			kind = "STATIC"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, kind, r.Version)
	case "endpoints":
		some := false
		for _, l := range m.Endpoints {
			for _, e := range l.Endpoints {
				some = true
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Name, e.Endpoint.Address, strings.ToLower(dash(e.Health)), dash(l.Locality.Zone), r.Version)
			}
		}
		if !some {
			fmt.Fprintf(w, "%s\tnone\t-\t-\t%s\n", r.Name, r.Version)
		}
	}
}

// offline translates a folder of manifests for one pod.
func offline(ctx context.Context, dir, namespace, pod string) (api.Config, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return api.Config{}, fmt.Errorf("there is no folder %s; name an existing one with --manifests", dir)
	}
	td, err := identity.ParseTrustDomain(controlplane.DefaultTrustDomain)
	if err != nil {
		return api.Config{}, err
	}
	return controlplane.Translate(ctx, controlplane.Options{
		Source: kube.NewFolder(kube.FolderOptions{Dir: dir, Log: zerolog.Nop()}), TrustDomain: td, Log: zerolog.Nop(),
	}, namespace, pod)
}
