package injector

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/heddle-mesh/heddle/policy"
)

// What people may write on a pod, or on its template. InjectKey is a label on a namespace too.
const (
	InjectKey           = "heddle.dev/inject"
	skipInboundPorts    = "heddle.dev/skip-inbound-ports"
	skipOutboundPorts   = "heddle.dev/skip-outbound-ports"
	skipInboundCIDRs    = "heddle.dev/skip-inbound-cidrs"
	skipOutboundCIDRs   = "heddle.dev/skip-outbound-cidrs"
	proxyCPURequest     = "heddle.dev/proxy-cpu-request"
	proxyCPULimit       = "heddle.dev/proxy-cpu-limit"
	proxyMemoryRequest  = "heddle.dev/proxy-memory-request"
	proxyMemoryLimit    = "heddle.dev/proxy-memory-limit"
	proxyLogLevel       = "heddle.dev/proxy-log-level"
	proxyConcurrency    = "heddle.dev/proxy-concurrency"
	drainTimeKey        = "heddle.dev/drain-time"
	preStopSleepKey     = "heddle.dev/prestop-sleep"
	workloadAPIKey      = "heddle.dev/workload-api"
	annotationNamespace = "heddle.dev/"
)

// Values of InjectKey.
const (
	Enabled  = "enabled"
	Disabled = "disabled"
)

// Defaults of what people may set.
const (
	defaultCPURequest    = "50m"
	defaultMemoryRequest = "96Mi"
	initCPURequest       = "10m" // of heddle-init, at most, as the next three
	initMemoryRequest    = "32Mi"
	initCPULimit         = "100m"
	initMemoryLimit      = "64Mi"
	defaultPreStopSleep  = 3 // seconds
	maxConcurrency       = 128
	maxPreStopSleep      = 3600 // seconds
	maxDrainTime         = 24 * time.Hour
	minMemoryLimit       = "64Mi" // Envoy alone has 65 MB when it is idle: less ends it at once
)

// settings are the annotations of a pod, read.
type settings struct {
	skip         []string // flags of the redirection, each with its value
	resources    corev1.ResourceRequirements
	logLevel     string // as Envoy has it; empty: default
	concurrency  int    // 0: the agent's default
	drainTime    time.Duration
	preStopSleep int64 // seconds; 0: none
	preStopSet   bool  // somebody wrote it
	workloadAPI  bool
}

// reader reads annotations and keeps what is wrong with them.
type reader struct {
	annotations map[string]string
	refusals    []Refusal
}

// settingsOf reads the annotations of a pod. All that is wrong comes at once.
func settingsOf(pod *corev1.Pod) (settings, []Refusal) {
	r := &reader{annotations: pod.Annotations}
	s := settings{preStopSleep: defaultPreStopSleep}
	s.skip = r.skips()
	s.resources = r.resources(pod.Spec.Resources != nil)
	r.read(proxyLogLevel, "trace, debug, info, warning or error", func(v string) bool {
		s.logLevel = v
		return slices.Contains([]string{"trace", "debug", "info", "warning", "error"}, v)
	})
	r.read(proxyConcurrency, fmt.Sprintf("a whole number from 1 to %d", maxConcurrency), func(v string) (ok bool) {
		n, ok := number(v, 1, maxConcurrency)
		s.concurrency = int(n)
		return ok
	})
	r.read(drainTimeKey, "a time from 1s to 24h, such as 90s", func(v string) bool {
		d, err := time.ParseDuration(v)
		s.drainTime = d
		return err == nil && d >= time.Second && d <= maxDrainTime
	})
	r.read(preStopSleepKey, fmt.Sprintf(`whole seconds from 1 to %d, such as "5", or "off"`, maxPreStopSleep), func(v string) bool {
		s.preStopSet = true
		if v == "off" {
			s.preStopSleep = 0
			return true
		}
		if n, ok := number(v, 1, maxPreStopSleep); ok {
			s.preStopSleep = n
			return true
		}
		return false
	})
	r.read(workloadAPIKey, "enabled or disabled", func(v string) bool {
		s.workloadAPI = v == Enabled
		return v == Enabled || v == Disabled
	})
	return s, r.refusals
}

// read hands the value of an annotation on, if there is one, and refuses what is not taken.
func (r *reader) read(key, want string, take func(string) bool) {
	value, ok := r.annotations[key]
	if ok && !take(strings.TrimSpace(value)) {
		r.refuse(key, want)
	}
}

func (r *reader) refuse(key, want string) {
	r.refusals = append(r.refusals, Refusal{
		Reason: fmt.Sprintf("annotation %s: %q is not understood", key, r.annotations[key]),
		Remedy: "write " + want,
	})
}

// number reads a decimal number within bounds.
func number(s string, least, most int64) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= least && n <= most
}

// skips gives the flags of the redirection.
func (r *reader) skips() []string {
	var flags []string
	add := func(key, want string, read func(string) (string, bool)) {
		flag := "--" + strings.TrimPrefix(key, annotationNamespace) + "="
		r.read(key, want, func(v string) bool {
			if v == "" { // as templates leave it
				return true
			}
			var items []string
			for item := range strings.SplitSeq(v, ",") {
				item, ok := read(strings.TrimSpace(item))
				if !ok {
					return false
				}
				items = append(items, item)
			}
			flags = append(flags, flag+strings.Join(items, ","))
			return true
		})
	}
	const ports = `ports and ranges of them from 1 to 65535, separated by commas, such as "22,8000-8010"`
	const cidrs = `networks, separated by commas, such as "10.1.0.0/16,2001:db8::/32", without bits beyond the mask`
	add(skipInboundPorts, ports, portsOf)
	add(skipOutboundPorts, ports, portsOf)
	add(skipInboundCIDRs, cidrs, networkOf)
	add(skipOutboundCIDRs, cidrs, networkOf)
	return flags
}

// portsOf reads a port, or two with a dash between them.
func portsOf(s string) (string, bool) {
	first, last, isRange := strings.Cut(s, "-")
	a, ok := number(first, 1, 65535)
	if !isRange {
		return s, ok
	}
	b, okToo := number(last, 1, 65535)
	return s, ok && okToo && a <= b
}

// networkOf reads a network; an address is one of a single host.
func networkOf(s string) (string, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()).String(), true
	}
	p, err := netip.ParsePrefix(s)
	return s, err == nil && p == p.Masked() && !p.Addr().Is4In6()
}

// resources gives what the sidecar asks for. In a pod with resources of its own, which stand for all containers,
// only what was written counts.
func (r *reader) resources(forPod bool) corev1.ResourceRequirements {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	quantity := func(key string, list corev1.ResourceList, name corev1.ResourceName, example string) {
		r.read(key, fmt.Sprintf("a quantity over 0, such as %s", example), func(v string) bool {
			q, err := resource.ParseQuantity(v)
			list[name] = q
			return err == nil && q.Sign() > 0
		})
	}
	if !forPod {
		requests[corev1.ResourceCPU] = resource.MustParse(defaultCPURequest)
		requests[corev1.ResourceMemory] = resource.MustParse(defaultMemoryRequest)
	}
	quantity(proxyCPURequest, requests, corev1.ResourceCPU, "100m")
	quantity(proxyMemoryRequest, requests, corev1.ResourceMemory, "128Mi")
	quantity(proxyCPULimit, limits, corev1.ResourceCPU, "500m")
	quantity(proxyMemoryLimit, limits, corev1.ResourceMemory, "256Mi")
	if len(r.refusals) == 0 {
		r.fit(requests, limits)
	}
	if len(requests) == 0 {
		requests = nil
	}
	if len(limits) == 0 {
		limits = nil
	}
	return corev1.ResourceRequirements{Requests: requests, Limits: limits}
}

// fit holds limits against requests. A default request gives way to a limit below it.
func (r *reader) fit(requests, limits corev1.ResourceList) {
	for _, k := range []struct {
		name           corev1.ResourceName
		request, limit string
	}{{corev1.ResourceCPU, proxyCPURequest, proxyCPULimit}, {corev1.ResourceMemory, proxyMemoryRequest, proxyMemoryLimit}} {
		request, asked := requests[k.name]
		limit, limited := limits[k.name]
		if !asked || !limited || request.Cmp(limit) <= 0 {
			continue
		}
		if _, written := r.annotations[k.request]; !written {
			requests[k.name] = limit
			continue
		}
		r.refusals = append(r.refusals, Refusal{
			Reason: fmt.Sprintf("annotation %s: %q is more than %s, %q", k.request, r.annotations[k.request], k.limit, r.annotations[k.limit]),
			Remedy: "ask for no more than the limit",
		})
	}
	if limit, ok := limits[corev1.ResourceMemory]; ok && limit.Cmp(resource.MustParse(minMemoryLimit)) < 0 {
		r.refuse(proxyMemoryLimit, "at least "+minMemoryLimit+": Envoy does not start with less")
	}
}

// known gives the names of all annotations.
func known() []string {
	return []string{
		InjectKey, skipInboundPorts, skipOutboundPorts, skipInboundCIDRs, skipOutboundCIDRs, proxyCPURequest, proxyCPULimit,
		proxyMemoryRequest, proxyMemoryLimit, proxyLogLevel, proxyConcurrency, drainTimeKey, preStopSleepKey, workloadAPIKey,
	}
}

// unknown warns of annotations that look like ours and are not. They do not stop a pod: after a step back to an older
// control plane those of the newer one are still there.
func unknown(annotations map[string]string) []string {
	var warnings, names []string
	for _, key := range known() {
		names = append(names, strings.TrimPrefix(key, annotationNamespace))
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, annotationNamespace) || slices.Contains(known(), key) {
			continue
		}
		text := fmt.Sprintf("annotation %s is not known and has no effect", key)
		if near := policy.Nearest(strings.TrimPrefix(key, annotationNamespace), names); near != "" {
			text += "; did you mean " + annotationNamespace + near + "?"
		}
		warnings = append(warnings, text)
	}
	return warnings
}
