package injector

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/model"
)

// Options are the facts that a patch depends on, beside the pod. Image and Seed must be set.
type Options struct {
	Namespace Namespace // where the pod will run

	Image      string            // of heddle-proxy: Envoy and the agent
	PullPolicy corev1.PullPolicy // default IfNotPresent

	System       string // namespace of the control plane, where nothing is injected; default heddle-system
	ControlPlane string // host:port; default heddle.SYSTEM.svc:15010
	Signer       string // host:port; default heddle-signer.SYSTEM.svc:15012
	TrustDomain  string // default cluster.local

	// Defaults are annotations that a pod has unless it says otherwise. They must be good in themselves: where they do not fit
	// a pod they give way, and what cannot be read is refused with each pod. InjectKey cannot be one.
	Defaults map[string]string

	// Seed makes the path of probes one that nobody can guess: it must be random, such as the UID of an admission request.
	Seed string
}

// Namespace is what counts of the pod's namespace.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Outcome says what became of a pod.
type Outcome int

// The outcomes.
const (
	LeftAlone Outcome = iota // the pod starts as it is
	Injected                 // the patched pod starts
	Refused                  // the pod must not start
)

func (o Outcome) String() string {
	switch o {
	case LeftAlone:
		return "left alone"
	case Injected:
		return "injected"
	case Refused:
		return "refused"
	}
	return fmt.Sprintf("outcome %d", int(o))
}

// Result is what became of a pod.
type Result struct {
	Outcome  Outcome
	Pod      *corev1.Pod // Injected: the patched copy
	Reason   string      // LeftAlone: why
	Refusals []Refusal   // Refused: all that stands against it
	Warnings []string    // what works other than one may expect, one sentence each
}

// Refusal is one reason not to start a pod, and what to do about it.
type Refusal struct {
	Reason string
	Remedy string
}

func (r Refusal) String() string { return r.Reason + "; " + r.Remedy }

// Message is the outcome in words: the reason why a pod was left alone, or all refusals with their remedies.
func (r Result) Message() string {
	if r.Outcome != Refused {
		return r.Reason
	}
	var all []string
	for _, refusal := range r.Refusals {
		all = append(all, refusal.String())
	}
	return strings.Join(all, "\n")
}

// Patch puts a sidecar into a copy of the pod, or says why not. The pod itself is not changed. The same input gives the
// same result. An error means that the options are not good, whatever the pod.
func Patch(pod *corev1.Pod, o Options) (Result, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Result{}, fmt.Errorf("inject a pod of namespace %q: %w", o.Namespace.Name, err)
	}
	if reason := LeaveAlone(pod, o.Namespace, o.System); reason != "" {
		return Result{Outcome: LeftAlone, Reason: reason}, nil
	}
	pod, fitted := withDefaults(pod, o.Defaults)
	s, problems := settingsOf(pod)
	if refusals := slices.Concat(wantProblems(pod, o.Namespace), problems, refuse(pod, s, o)); len(refusals) > 0 {
		return Result{Outcome: Refused, Refusals: refusals}, nil
	}
	p := &patch{pod: pod.DeepCopy(), options: o, settings: s, prefix: prefixOf(o.Seed)}
	p.warnings = slices.Concat(fitted, warn(pod, s))
	p.apply()
	return Result{Outcome: Injected, Pod: p.pod, Warnings: p.warnings}, nil
}

func (o Options) withDefaults() Options {
	orDefault(&o.PullPolicy, corev1.PullIfNotPresent)
	orDefault(&o.System, systemNamespace)
	orDefault(&o.ControlPlane, "heddle."+o.System+".svc:15010")
	orDefault(&o.Signer, "heddle-signer."+o.System+".svc:15012")
	orDefault(&o.TrustDomain, "cluster.local")
	return o
}

func orDefault[T comparable](v *T, byDefault T) {
	var zero T
	if *v == zero {
		*v = byDefault
	}
}

func (o Options) validate() error {
	var errs []error
	if o.Image == "" {
		errs = append(errs, errors.New("no image of heddle-proxy given"))
	}
	if o.Seed == "" {
		errs = append(errs, errors.New("no seed given: the path of probes could be guessed"))
	}
	for _, a := range []struct{ what, address string }{{"control plane", o.ControlPlane}, {"signer", o.Signer}} {
		if host, port, err := net.SplitHostPort(a.address); err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("address of the %s %q: want HOST:PORT", a.what, a.address))
		}
	}
	return errors.Join(errs...)
}

// prefixOf makes the first part of the path of probes from the seed, which stays unknown this way.
func prefixOf(seed string) string {
	sum := sha256.Sum256([]byte("heddle probe prefix\x00" + seed))
	return hex.EncodeToString(sum[:16])
}

// patch is the work on one pod.
type patch struct {
	pod      *corev1.Pod // the copy
	options  Options
	settings settings
	prefix   string
	warnings []string
}

func (p *patch) apply() {
	probes := p.rewriteProbes()
	p.pauseBeforeEnd()
	if p.settings.workloadAPI {
		p.offerWorkloadAPI()
	}
	if p.pod.Labels == nil {
		p.pod.Labels = map[string]string{}
	}
	p.pod.Labels[model.SidecarLabel] = "true"
	own := []corev1.Container{p.sidecar(probes), p.initContainer()}
	p.pod.Spec.InitContainers = append(own, p.pod.Spec.InitContainers...)
	p.pod.Spec.Volumes = append(p.pod.Spec.Volumes, p.volumes()...)
}

func (p *patch) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// containers gives every container of the pod that is not ours, to be changed in place: those that run all the time and
// those that run before them.
func containers(spec *corev1.PodSpec) []*corev1.Container {
	var all []*corev1.Container
	for i := range spec.InitContainers {
		all = append(all, &spec.InitContainers[i])
	}
	for i := range spec.Containers {
		all = append(all, &spec.Containers[i])
	}
	return all
}
