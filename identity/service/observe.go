package service

import (
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
)

// Roll is who there is, from the API server: attest.PodWatch.
type Roll interface {
	attest.Pods
	// Started lists the pods that may have an identity; known is false as long as it cannot tell.
	Started() (list []attest.PodName, known bool)
}

// Observe says what a rotation of the CA has to know of the sidecars, from what was seen after since, when this process
// began to serve. With a roll it knows of those too that it has not seen, and that pods which are gone have nothing;
// without one, roll is nil, it says that it remembers nobody from before.
func (c *Connected) Observe(roll Roll, now, since time.Time) identity.Observation {
	o := identity.Observation{Now: now, Remembers: since}
	unseen := map[sidecarKey]bool{}
	if roll != nil {
		o.Remembers = time.Time{}
		if list, known := roll.Started(); known {
			o.Remembers = time.Unix(0, 0) // nobody is forgotten: the API server knows all
			for _, p := range list {
				unseen[sidecarKey{p.Namespace, p.Name, p.UID}] = true
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, r := range c.known {
		if r.polls > 0 {
			r.seen = now // it waits at this moment
		}
		if r.seen.Before(since) {
			continue // while another process served, much may have happened to it
		}
		if roll != nil {
			if p, ok := roll.Pod(key.namespace, key.pod); !ok || p.UID != key.uid || p.Finished {
				continue
			}
		}
		delete(unseen, key)
		o.Proxies = append(o.Proxies, identity.ProxyObservation{
			Name: key.namespace + "/" + key.pod, LastSeen: r.seen, Reported: r.Reported, Taken: r.Taken,
			Authority: r.Uses, Issued: r.Issued, LeafExpires: r.NotAfter,
		})
	}
	for key := range unseen {
		o.Proxies = append(o.Proxies, identity.ProxyObservation{Name: key.namespace + "/" + key.pod, LastSeen: since})
	}
	return o
}
