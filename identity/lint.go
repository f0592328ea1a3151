package identity

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

const (
	minSerialBits = 64
	maxSerial     = 20 // bytes; RFC 5280, 4.1.2.2
)

// lint says what is wrong with a leaf that is about to be signed for r. It goes by the certificate as parsed and knows
// nothing of how it was made.
func lint(c *x509.Certificate, r Request, now time.Time) error {
	for _, check := range []func(*x509.Certificate, Request, time.Time) error{
		lintNames, lintUsage, lintKey, lintSerial, lintTimes, lintPod, lintExtensions,
	} {
		if err := check(c, r, now); err != nil {
			return fmt.Errorf("the certificate breaks a rule: %w", err)
		}
	}
	return nil
}

func lintNames(c *x509.Certificate, r Request, _ time.Time) error {
	all, err := names(c.Extensions)
	if err != nil {
		return err
	}
	id, err := uri(all)
	if err != nil {
		return err
	}
	if id != r.ID {
		return fmt.Errorf("its ID is %s", id)
	}
	if !slices.Equal(c.DNSNames, r.DNSNames) || len(all) != 1+len(r.DNSNames) {
		return fmt.Errorf("it has %d alternative names, DNS names %q", len(all), c.DNSNames)
	}
	if len(c.Subject.Names) != 0 {
		return fmt.Errorf("it has a subject, %q", c.Subject)
	}
	return nil
}

func lintUsage(c *x509.Certificate, _ Request, _ time.Time) error {
	if c.KeyUsage != x509.KeyUsageDigitalSignature {
		return fmt.Errorf("its key usage is %#b", c.KeyUsage)
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) || len(c.UnknownExtKeyUsage) > 0 {
		return fmt.Errorf("its extended key usage is %v %v", c.ExtKeyUsage, c.UnknownExtKeyUsage)
	}
	if !c.BasicConstraintsValid || c.IsCA {
		return fmt.Errorf("it is a CA, or does not say that it is none")
	}
	return nil
}

func lintKey(c *x509.Certificate, r Request, _ time.Time) error {
	key, err := p256(c.PublicKey)
	if err != nil {
		return err
	}
	if !key.Equal(r.Key) {
		return fmt.Errorf("it holds another key than was asked for")
	}
	return nil
}

func lintSerial(c *x509.Certificate, _ Request, _ time.Time) error {
	if c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() < minSerialBits || len(c.SerialNumber.Bytes()) > maxSerial {
		return fmt.Errorf("its serial number is %x", c.SerialNumber)
	}
	return nil
}

func lintTimes(c *x509.Certificate, r Request, now time.Time) error {
	lifetime := r.Lifetime
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	if c.NotBefore.After(now) || c.NotBefore.Before(now.Add(-BackDate-time.Second)) {
		return fmt.Errorf("it is valid from %s, at %s", c.NotBefore, now)
	}
	if !c.NotAfter.After(now) || c.NotAfter.After(now.Add(lifetime+time.Second)) {
		return fmt.Errorf("it is valid until %s, at %s", c.NotAfter, now)
	}
	return nil
}

func lintPod(c *x509.Certificate, r Request, _ time.Time) error {
	if r.Pod == "" {
		if _, _, err := PodOf(c); err == nil {
			return fmt.Errorf("it names a pod and was asked for without one")
		}
		return nil
	}
	pod, uid, err := PodOf(c)
	if err != nil {
		return err
	}
	if pod != r.Pod || uid != r.PodUID {
		return fmt.Errorf("it is for pod %s with UID %q", pod, uid)
	}
	return nil
}

// lintExtensions wants exactly those that we know, each once, critical as RFC 5280, 4.2 has it: the alternative names
// because there is no subject, and ours not, so that others may pass over it.
func lintExtensions(c *x509.Certificate, r Request, _ time.Time) error {
	want := map[string]bool{
		oidSAN().String():              true,
		oidBasicConstraints().String(): true,
		"2.5.29.15":                    true,  // keyUsage
		"2.5.29.37":                    false, // extKeyUsage
		"2.5.29.35":                    false, // authorityKeyIdentifier
	}
	if r.Pod != "" {
		want[oidPod().String()] = false
	}
	for _, e := range c.Extensions {
		critical, known := want[e.Id.String()]
		if !known {
			return fmt.Errorf("it has an extension %v that nobody asked for, or twice", e.Id)
		}
		if e.Critical != critical {
			return fmt.Errorf("its extension %v is marked critical: %t", e.Id, e.Critical)
		}
		delete(want, e.Id.String())
	}
	delete(want, "2.5.29.35") // an issuer without a key identifier of its own gives none
	if len(want) > 0 {
		return fmt.Errorf("it lacks the extensions %v", want)
	}
	return nil
}
