package mesh

import (
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

func connection(p *policy.Connection) model.Connection {
	c := model.Connection{
		ConnectTimeout: span(p.ConnectTimeout),
		MaxRequests:    or(p.MaxRequestsPerConnection, 0),
		HTTP:           httpVersion(p.HTTP),
	}
	if k := p.Keepalive; k != nil {
		c.Keepalive = &model.Keepalive{Probes: or(k.Probes, 0), Time: span(k.Time), Interval: span(k.Interval)}
	}
	return c
}

func httpVersion(v policy.HTTPVersion) model.HTTPVersion {
	switch v {
	case policy.HTTP1:
		return model.HTTPVersion1
	case policy.HTTP2:
		return model.HTTPVersion2
	}
	return model.HTTPAuto
}
