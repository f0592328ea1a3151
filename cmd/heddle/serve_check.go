package main

import (
	"fmt"
	"net"

	"github.com/heddle-mesh/heddle/identity"
)

// check refuses values that would be refused later, before anything is made: what was misspelt must not leave a CA behind.
func (f *serveFlags) check() error {
	if f.lifetime < identity.MinLifetime || f.lifetime > identity.MaxLifetime {
		return fmt.Errorf("--certificate-lifetime %s: choose between %s and %s", f.lifetime, identity.MinLifetime, identity.MaxLifetime)
	}
	if f.manifests == "" || f.signer == "" {
		return nil
	}
	a, err := net.ResolveTCPAddr("tcp", f.signer)
	if err != nil {
		return fmt.Errorf("--signer %s: %w", f.signer, err)
	}
	if !a.IP.IsLoopback() {
		return fmt.Errorf("--signer %s: with --manifests it hands join tokens to sidecars on this machine alone; choose a loopback address, such as 127.0.0.1:15012", f.signer)
	}
	return nil
}
