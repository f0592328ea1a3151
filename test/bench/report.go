package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// report prints the figures, per proxy, their ratio to the floor, and the core's marks.
func report(out io.Writer, o options, subjects []*subject) {
	fmt.Fprintf(out, "%d Services x %d endpoints, %d proxies, delta ADS over a unix socket (door: TCP, mutual TLS); %d rounds of %d changes\n\n",
		o.services, o.endpoints, o.proxies, o.rounds, o.changes)
	floor := perProxy(subjects[0].endpoint, o)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintln(w, "server\twhat\tserver CPU/proxy\tx floor\tmark\tresponses/proxy\tresources/proxy\tp50\tp99\tlast")
	for _, s := range subjects {
		if s.endpoint.changes > 0 {
			row(w, o, s, "one endpoint changes", s.endpoint, floor)
		}
		if s.service.changes > 0 {
			row(w, o, s, "one new Service", s.service, floor)
		}
	}
	fmt.Fprintln(w, "\t\t\t\t\t\t\t\t\t")
	fmt.Fprintln(w, "server\twhat\tconnect CPU/proxy\tmark\tidle RSS\tRSS/proxy\tafter GC\tmark\t\t")
	for _, s := range subjects {
		n, idle := int64(o.proxies), s.loaded.Idle.RSS
		fmt.Fprintf(w, "%s\tall connect\t%v\t%s\t%d MB\t%d KB\t%d KB\t%s\t\t\n", s.role,
			(s.connect / time.Duration(o.proxies)).Round(time.Microsecond), s.mark("8ms"), idle>>20,
			(s.connected.RSS-idle)/n>>10, (s.trimmed.RSS-idle)/n>>10, s.mark("150 KB"))
	}
}

// mark is what is wanted of the core.
func (s *subject) mark(wanted string) string {
	if s.role == "heddle" {
		return "<= " + wanted
	}
	return ""
}

func row(w io.Writer, o options, from *subject, what string, s series, floor time.Duration) {
	slices.Sort(s.latencies)
	at := func(q float64) time.Duration {
		return s.latencies[int(q*float64(len(s.latencies)-1))].Round(100 * time.Microsecond)
	}
	wanted := "2x"
	if what == "one new Service" {
		wanted = "4x"
	}
	cost, times := perProxy(s, o), float64(s.changes*o.proxies)
	fmt.Fprintf(w, "%s\t%s\t%v\t%.2f\t%s\t%.2f\t%.2f\t%v\t%v\t%v\n", from.role, what, cost.Round(100*time.Nanosecond),
		float64(cost)/float64(floor), from.mark(wanted), float64(s.responses)/times, float64(s.resources)/times, at(0.5), at(0.99), at(1))
}

func perProxy(s series, o options) time.Duration {
	return s.cpu / time.Duration(s.changes*o.proxies)
}
