package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"time"
)

// process is what main asks every server process.
type process struct {
	acks    func() int
	profile string
}

// begin begins to measure.
func (p *process) begin(profile string, acks func() int) (idle Usage, err error) {
	p.acks = acks
	if p.profile = profile; profile != "" {
		cpu, err := os.Create(profile + ".cpu")
		if err != nil {
			return idle, err
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return idle, err
		}
	}
	err = p.Trim(struct{}{}, &idle)
	return idle, err
}

// Usage says what the process has used, once it has got that many acknowledgements.
func (p *process) Usage(acks int, u *Usage) (err error) {
	for deadline := time.Now().Add(time.Minute); p.acks() < acks; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d acknowledgements after a minute", p.acks(), acks)
		}
	}
	*u, err = usage()
	return err
}

// Trim gives memory that is not in use back to the system.
func (p *process) Trim(_ struct{}, u *Usage) (err error) {
	debug.FreeOSMemory()
	*u, err = usage()
	return err
}

// Profile ends the profile of what was done so far, and names it.
func (p *process) Profile(what string, _ *struct{}) error {
	if p.profile == "" {
		return nil
	}
	pprof.StopCPUProfile()
	allocs, err := os.Create(p.profile + "." + what + ".allocs")
	if err != nil {
		return err
	}
	defer allocs.Close()
	if err := pprof.Lookup("allocs").WriteTo(allocs, 0); err != nil {
		return err
	}
	if err := os.Rename(p.profile+".cpu", p.profile+"."+what+".cpu"); err != nil {
		return err
	}
	cpu, err := os.Create(p.profile + ".cpu")
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(cpu)
}
