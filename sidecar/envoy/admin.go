package envoy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// admin talks to Envoy's admin interface over its unix socket.
type admin struct{ client http.Client }

func newAdmin(socket string) *admin {
	return &admin{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true, // nothing to close when Envoy ends
	}}}
}

func (a *admin) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy's admin interface for %s: %w", path, err)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy's admin interface for %s: %w", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read Envoy's answer to %s: %w", path, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asked for %s, Envoy answers %s: %s", path, res.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// Stats gives the counters and gauges whose full name the regular expression matches. Asking stops Envoy's main
// thread for a moment: it is for tests and for people, not for polling.
func (p *Proxy) Stats(ctx context.Context, regex string) (map[string]uint64, error) {
	text, err := p.Get(ctx, "/stats?filter="+url.QueryEscape("^(?:"+regex+")$"))
	if err != nil {
		return nil, err
	}
	stats := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		// Names may hold ": ", values that are no numbers belong to histograms and text readouts.
		i := strings.LastIndex(line, ": ")
		if i < 0 {
			continue
		}
		if v, err := strconv.ParseUint(strings.TrimSpace(line[i+2:]), 10, 64); err == nil {
			stats[line[:i]] = v
		}
	}
	return stats, nil
}
