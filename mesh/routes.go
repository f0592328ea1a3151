package mesh

import (
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// route converts a route without its targets.
func route(p *policy.Route) model.Route {
	r := model.Route{
		Name:            p.Name,
		Matches:         matches(p.Match),
		Timeout:         spanPtr(p.Timeout),
		IdleTimeout:     spanPtr(p.IdleTimeout),
		Fault:           fault(p.Fault),
		Rewrite:         rewrite(p.Rewrite),
		Redirect:        redirect(p.Redirect),
		RequestHeaders:  headerChange(p.RequestHeaders),
		ResponseHeaders: headerChange(p.ResponseHeaders),
		CORS:            cors(p.CORS),
		RateLimit:       rateLimit(p.RateLimit),
		HashOn:          hashOn(p.HashOn),
	}
	if p.Retries != nil {
		r.Retries = retries(p.Retries)
		r.NoRetries = r.Retries == nil
	}
	if p.DirectResponse != nil {
		r.Direct = &model.DirectResponse{Status: p.DirectResponse.Status, Body: p.DirectResponse.Body}
	}
	return r
}

func fault(p *policy.Fault) *model.Fault {
	if p == nil {
		return nil
	}
	f := &model.Fault{Header: string(p.Header)}
	if d := p.Delay; d != nil {
		f.Delay = &model.Delay{Duration: time.Duration(d.Duration), Percent: float64(or(d.Percent, 0))}
	}
	if a := p.Abort; a != nil {
		f.Abort = &model.Abort{Status: or(a.Status, 0), GRPC: a.GRPCStatus, Percent: float64(or(a.Percent, 0))}
	}
	return f
}

func rewrite(p *policy.Rewrite) *model.Rewrite {
	if p == nil {
		return nil
	}
	return &model.Rewrite{Prefix: unlessEmpty(p.Prefix), Path: p.Path, Host: p.Host}
}

func redirect(p *policy.Redirect) *model.Redirect {
	if p == nil {
		return nil
	}
	return &model.Redirect{
		Scheme: string(p.Scheme), Host: p.Host, Port: uint32(or(p.Port, 0)),
		Path: p.Path, Prefix: unlessEmpty(p.Prefix), Status: uint32(p.Status),
	}
}

func headerChange(p *policy.HeaderChange) model.HeaderChange {
	if p == nil {
		return model.HeaderChange{}
	}
	return model.HeaderChange{Set: headers(p.Set), Add: headers(p.Add), Remove: slices.Sorted(slices.Values(words(p.Remove)))}
}

func headers(written map[policy.HeaderName]string) []model.Header {
	var all []model.Header
	for _, name := range sorted(written) {
		all = append(all, model.Header{Name: string(name), Value: written[name]})
	}
	return all
}

func cors(p *policy.CORS) *model.CORS {
	if p == nil {
		return nil
	}
	c := &model.CORS{
		Methods: words(p.Methods), Headers: words(p.Headers), Expose: words(p.ExposeHeaders),
		MaxAge: span(p.MaxAge), Credentials: p.Credentials,
	}
	for _, o := range p.Origins {
		c.Origins = append(c.Origins, model.OriginMatch{Exact: o.Exact, Prefix: o.Prefix, Regex: string(o.Regex)})
	}
	return c
}

func rateLimit(p *policy.RateLimit) *model.RateLimit {
	if p == nil {
		return nil
	}
	return &model.RateLimit{Requests: p.Requests, Per: span(p.Per), Burst: or(p.Burst, p.Requests)}
}

func unlessEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
