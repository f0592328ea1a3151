package main

import (
	"fmt"
	"path/filepath"
	"time"
)

// subject is one server under measurement, and what was measured.
type subject struct {
	role   string
	server *child
	fleet  *child
	o      options

	loaded             Loaded
	connected, trimmed Usage
	connect            time.Duration // CPU, all proxies
	endpoint, service  series
	generation         int
}

// series is what changes of one kind cost.
type series struct {
	changes   int
	cpu       time.Duration // of the server
	latencies []time.Duration
	responses int // that proxies got
	resources int // in those
}

func newSubject(role string, fleet *child, o options) (*subject, error) {
	server, err := spawn(role)
	return &subject{role: role, server: server, fleet: fleet, o: o}, err
}

// connect loads the server and connects its proxies, which is a measurement of its own.
func (s *subject) connectAll(socket string) error {
	load := Load{Socket: socket, Services: s.o.services, Endpoints: s.o.endpoints}
	if s.o.profile != "" {
		load.Profile = filepath.Join(s.o.profile, s.role)
	}
	if err := s.server.Call("Server.Load", load, &s.loaded); err != nil {
		return err
	}
	before := s.loaded.Idle
	group := Group{Server: s.role, Address: s.loaded.Address, Proxies: s.o.proxies, Echo: s.role == "floor", CA: s.loaded.CA}
	if err := s.fleet.Call("Fleet.Connect", group, &struct{}{}); err != nil {
		return err
	}
	after, _, err := s.settle()
	if err != nil {
		return err
	}
	s.connect, s.connected = after.CPU-before.CPU, after
	if err := s.server.Call("Server.Profile", "connect", &struct{}{}); err != nil {
		return err
	}
	return s.server.Call("Server.Trim", struct{}{}, &s.trimmed)
}

// turn makes the server's changes of one round.
func (s *subject) turn(round int) error {
	if s.role == "door" {
		return nil // its changes are the core's
	}
	changes := s.o.changes
	if s.role == "stock" {
		changes = max(1, changes/20) // each takes it long enough to be measured by itself, and all of them must end in time
	}
	for i := range changes {
		s.generation++
		c := Change{Kind: "endpoint", Service: (round*s.o.changes + i*37) % s.o.services, Generation: s.generation}
		if err := s.change(c, &s.endpoint); err != nil {
			return err
		}
	}
	if s.role == "floor" {
		return nil
	}
	for i := range changes {
		c := Change{Kind: "service", Service: s.o.services + i, Generation: s.generation}
		if err := s.change(c, &s.service); err != nil {
			return err
		}
	}
	for i := range changes {
		if err := s.change(Change{Kind: "remove", Service: s.o.services + i}, nil); err != nil {
			return err
		}
	}
	return nil
}

// change makes one change, waits until every proxy has it and the server knows, and adds its cost to the series.
func (s *subject) change(c Change, to *series) error {
	var want []Wanted
	if err := s.server.Call("Server.Prepare", c, &want); err != nil {
		return err
	}
	if err := s.fleet.Call("Fleet.Expect", Expectation{Server: s.role, Wanted: want}, &struct{}{}); err != nil {
		return err
	}
	before, totals, err := s.settle()
	if err != nil {
		return err
	}
	var start time.Time
	if err := s.server.Call("Server.Publish", struct{}{}, &start); err != nil {
		return err
	}
	var arrivals []time.Time
	if err := s.fleet.Call("Fleet.Await", s.role, &arrivals); err != nil {
		return fmt.Errorf("change %+v: %w", c, err)
	}
	after, now, err := s.settle()
	if err != nil || to == nil {
		return err
	}
	to.changes++
	to.cpu += after.CPU - before.CPU
	to.responses += now.Responses - totals.Responses
	to.resources += now.Resources - totals.Resources
	for _, a := range arrivals {
		to.latencies = append(to.latencies, a.Sub(start))
	}
	return nil
}

// settle waits until the server has read every answer, and counts.
func (s *subject) settle() (u Usage, t Totals, err error) {
	if err := s.fleet.Call("Fleet.Totals", s.role, &t); err != nil {
		return u, t, err
	}
	return u, t, s.server.Call("Server.Usage", t.Acks, &u)
}

// agree is the final check: every proxy has what the server holds.
func (s *subject) agree() error {
	if err := s.server.Call("Server.Profile", "changes", &struct{}{}); err != nil {
		return err
	}
	switch s.role {
	case "floor":
		return nil
	case "door": // each proxy has what is its pod's alone, so that no two are the same
		var t Totals
		if err := s.fleet.Call("Fleet.Totals", s.role, &t); err != nil {
			return err
		}
		if least := s.o.proxies * s.o.services * len(perService()); t.Resources < least {
			return fmt.Errorf("door: proxies have %d resources, and the Services alone are %d", t.Resources, least)
		}
		return nil
	}
	var digest string
	if err := s.server.Call("Server.Digest", struct{}{}, &digest); err != nil {
		return err
	}
	var differing int
	if err := s.fleet.Call("Fleet.Differing", Check{Server: s.role, Digest: digest}, &differing); err != nil {
		return err
	}
	if differing > 0 {
		return fmt.Errorf("%s: the state of %d proxies of %d differs from the server's", s.role, differing, s.o.proxies)
	}
	return nil
}
