package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	o := options{}
	flag.IntVar(&o.proxies, "proxies", 400, "simulated proxies of each server")
	flag.IntVar(&o.services, "services", 1000, "Services that the mesh has")
	flag.IntVar(&o.endpoints, "endpoints", 10, "endpoints of each")
	flag.IntVar(&o.rounds, "rounds", 5, "turns that the servers take")
	flag.IntVar(&o.changes, "changes", 20, "changes of a kind in each turn")
	flag.BoolVar(&o.stock, "stock", true, "measure go-control-plane's server too, which takes most of the time")
	flag.StringVar(&o.profile, "profile", "", "write CPU and allocation profiles of the servers into that folder")
	flag.Parse()
	if err := run(o, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is main in one of its roles; without one it is the one that starts the others.
func run(o options, role string) error {
	switch role {
	case "":
		return measure(o)
	case "fleet":
		return obey("Fleet", newFleet())
	case "heddle":
		return obey("Server", &Server{backend: newHeddle()})
	case "floor":
		return obey("Server", &Server{backend: newFloor()})
	case "door":
		return obey("Server", &Door{})
	case "stock":
		return obey("Server", &Server{backend: newStock()})
	default:
		return fmt.Errorf("no such role: %s", role)
	}
}

type options struct {
	proxies, services, endpoints, rounds, changes int
	stock                                         bool
	profile                                       string
}

// measure starts the processes, lets them take turns, and prints what that cost.
func measure(o options) error {
	dir, err := os.MkdirTemp("", "heddle-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fleet, err := spawn("fleet")
	if err != nil {
		return err
	}
	children := []*child{fleet} // stopped in this order: proxies before what they are connected to
	defer func() {
		for _, c := range children {
			if err := c.stop(); err != nil {
				fmt.Fprintln(os.Stderr, "bench: stopping a process:", err)
			}
		}
	}()
	var subjects []*subject
	for _, role := range []string{"floor", "heddle", "door", "stock"} {
		if role == "stock" && !o.stock {
			continue
		}
		s, err := newSubject(role, fleet, o)
		if err != nil {
			return err
		}
		children = append(children, s.server)
		if err := s.connectAll(filepath.Join(dir, role)); err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
		subjects = append(subjects, s)
	}
	for round := range o.rounds {
		for _, s := range subjects {
			if err := s.turn(round); err != nil {
				return fmt.Errorf("%s, round %d: %w", s.role, round, err)
			}
		}
	}
	for _, s := range subjects {
		if err := s.agree(); err != nil {
			return err
		}
	}
	report(os.Stdout, o, subjects)
	fmt.Println("\nIn the end the state of every proxy is that of its server.")
	return nil
}
