package injector

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Names of the containers.
const (
	InitContainer    = "heddle-init"
	SidecarContainer = "heddle-proxy"
)

const (
	systemNamespace = "heddle-system"

	tokenVolume    = "heddle-token"
	trustVolume    = "heddle-trust"
	podInfoVolume  = "heddle-podinfo"
	runVolume      = "heddle-run"
	workloadVolume = "heddle-workload-api" // only where it is asked for

	trustConfigMap = "heddle-trust" // identity/keep writes it into each namespace with sidecars
	bundleItem     = "bundle.json"  // of it

	tokenDir     = "/var/run/secrets/heddle"
	tokenItem    = "token"
	tokenFor     = "heddle" // audience
	tokenSeconds = 3600
	trustDir     = "/var/run/heddle/trust"
	podInfoDir   = "/var/run/heddle/podinfo"
	runDir       = "/run/heddle"
	workloadDir  = "/run/heddle-workload-api"
	workloadAPI  = workloadDir + "/spiffe.sock"
	workloadEnv  = "SPIFFE_ENDPOINT_SOCKET"
	apiTokenDir  = "/var/run/secrets/kubernetes.io/serviceaccount"

	sidecarUser  = 1337 // user and group; what it sends is not redirected
	outboundPort = 15001
	inboundPort  = 15006

	// ProbesEnv and PrefixEnv tell the agent which probes and hooks to perform, and under which path.
	ProbesEnv = "HEDDLE_PROBES"
	PrefixEnv = "HEDDLE_PROBE_PREFIX"
	// AgentPort is where the agent answers the kubelet.
	AgentPort = 15021
)

// agentAddress is where containers of the pod find the agent, whatever the pod's families.
func agentAddress() string { return fmt.Sprintf("127.0.0.1:%d", AgentPort) }

// initContainer redirects the pod's traffic to Envoy, and ends when the sidecar, which has started before it, can route: what
// comes after both in the pod starts then. A startup probe of the sidecar would say so too, but a second later: a kubelet
// asks once a second, and looks once a second whether this has ended.
func (p *patch) initContainer() corev1.Container {
	return corev1.Container{
		Name: InitContainer, Image: p.options.Image, ImagePullPolicy: p.options.PullPolicy,
		Args:      append([]string{"init", "--await=" + agentAddress()}, p.settings.skip...),
		Env:       []corev1.EnvVar{{Name: PrefixEnv, Value: p.prefix}},
		Resources: p.initResources(),
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), RunAsNonRoot: new(false), Privileged: new(false),
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		VolumeMounts:             []corev1.VolumeMount{noAPIToken()},
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// initResources gives what the init container asks for. It runs beside the sidecar, so for a scheduler and for quotas the two add
// up where the application asks for less than it does: it asks for little. It asks for what the sidecar asks for at all,
// since quotas want that of each container, and its requests are limits where the sidecar's are, so that the pod stays Guaranteed.
// In a pod with resources that stand for all containers it needs none.
func (p *patch) initResources() corev1.ResourceRequirements {
	if p.pod.Spec.Resources != nil {
		return corev1.ResourceRequirements{}
	}
	r := *p.settings.resources.DeepCopy()
	for _, most := range []struct {
		name           corev1.ResourceName
		request, limit string
	}{{corev1.ResourceCPU, initCPURequest, initCPULimit}, {corev1.ResourceMemory, initMemoryRequest, initMemoryLimit}} {
		request, asked := r.Requests[most.name]
		limit, limited := r.Limits[most.name]
		if limited {
			r.Limits[most.name] = least(limit, most.limit)
		}
		switch {
		case asked && limited && request.Cmp(limit) == 0:
			r.Requests[most.name] = r.Limits[most.name]
		case asked:
			r.Requests[most.name] = least(request, most.request)
		}
	}
	return r
}

func least(q resource.Quantity, most string) resource.Quantity {
	if m := resource.MustParse(most); q.Cmp(m) > 0 {
		return m
	}
	return q
}

// noAPIToken keeps the token for the Kubernetes API out of a container that has no business there: admission mounts one
// into every container that has nothing at this place.
func noAPIToken() corev1.VolumeMount {
	return corev1.VolumeMount{Name: podInfoVolume, MountPath: apiTokenDir, ReadOnly: true}
}

// sidecar is the agent with its Envoy. It starts before all else in the pod, and ends last.
func (p *patch) sidecar(probes string) corev1.Container {
	c := corev1.Container{
		Name: SidecarContainer, Image: p.options.Image, ImagePullPolicy: p.options.PullPolicy,
		RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
		Args:          p.sidecarArgs(),
		Env: []corev1.EnvVar{
			fromField("HEDDLE_NAMESPACE", "metadata.namespace"), fromField("HEDDLE_POD", "metadata.name"),
			fromField("HEDDLE_SERVICE_ACCOUNT", "spec.serviceAccountName"), {Name: PrefixEnv, Value: p.prefix},
		},
		Resources: *p.settings.resources.DeepCopy(),
		// A kubelet asks at once whether it is ready, and each pod would begin with an event that warns of a refused connection.
		Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{"/heddle-sidecar", "started", agentAddress()}},
		}},
		// No probe starts it anew: the control plane may be away when the pod starts, and it waits for that.
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: p.toAgent("readyz")},
			PeriodSeconds: 5, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 3,
		},
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: new(int64(sidecarUser)), RunAsGroup: new(int64(sidecarUser)), RunAsNonRoot: new(true), Privileged: new(false),
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: tokenVolume, MountPath: tokenDir, ReadOnly: true}, {Name: trustVolume, MountPath: trustDir, ReadOnly: true},
			{Name: podInfoVolume, MountPath: podInfoDir, ReadOnly: true}, {Name: runVolume, MountPath: runDir}, noAPIToken(),
		},
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if probes != "" {
		c.Env = append(c.Env, corev1.EnvVar{Name: ProbesEnv, Value: escape(probes)})
	}
	if p.settings.workloadAPI {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: workloadVolume, MountPath: workloadDir})
	}
	return c
}

func (p *patch) sidecarArgs() []string {
	s, o := p.settings, p.options
	args := []string{
		"--trust-domain=" + escape(o.TrustDomain),
		"--namespace=$(HEDDLE_NAMESPACE)", "--service-account=$(HEDDLE_SERVICE_ACCOUNT)", "--pod=$(HEDDLE_POD)",
		"--signer=" + escape(o.Signer), "--control-plane=" + escape(o.ControlPlane),
		"--bundle=" + trustDir + "/" + bundleItem, "--token-file=" + tokenDir + "/" + tokenItem, "--labels-file=" + podInfoDir + "/labels",
		"--dir=" + runDir + "/private", fmt.Sprintf("--ready=:%d", AgentPort), "--await-redirection", "--health-checks", "--flush-interval=5s",
	}
	if s.workloadAPI {
		args = append(args, "--workload-api="+workloadAPI, "--app-socket-mode=0666")
	}
	if s.concurrency != 0 {
		args = append(args, fmt.Sprintf("--concurrency=%d", s.concurrency))
	}
	if s.drainTime != 0 {
		args = append(args, "--drain-time="+s.drainTime.String())
	}
	if s.logLevel != "" {
		args = append(args, "--envoy-log-level="+s.logLevel, "--log-level="+strings.TrimSuffix(s.logLevel, "ing")) // warn, not warning
	}
	return args
}

// toAgent is a request to the agent that only who knows the prefix can make.
func (p *patch) toAgent(path string) *corev1.HTTPGetAction {
	return &corev1.HTTPGetAction{Path: "/" + p.prefix + "/" + path, Port: intstr.FromInt32(AgentPort), Scheme: corev1.URISchemeHTTP}
}

// escape keeps the kubelet from taking $(NAME) in arguments and environment for a variable.
func escape(s string) string { return strings.ReplaceAll(s, "$", "$$") }

func fromField(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}

func (p *patch) volumes() []corev1.Volume {
	inMemory := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}
	mode := new(corev1.ProjectedVolumeSourceDefaultMode)
	volumes := []corev1.Volume{
		{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: mode,
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: tokenFor, ExpirationSeconds: new(int64(tokenSeconds)), Path: tokenItem,
			}}},
		}}},
		// It is not optional: while the control plane has not written it yet, the pod waits and an event says for what.
		{Name: trustVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: trustConfigMap}, DefaultMode: mode,
			Items: []corev1.KeyToPath{{Key: bundleItem, Path: bundleItem}},
		}}},
		{Name: podInfoVolume, VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			DefaultMode: mode,
			Items: []corev1.DownwardAPIVolumeFile{{
				Path: "labels", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels"},
			}},
		}}},
		{Name: runVolume, VolumeSource: inMemory},
	}
	if p.settings.workloadAPI {
		volumes = append(volumes, corev1.Volume{Name: workloadVolume, VolumeSource: *inMemory.DeepCopy()})
	}
	return volumes
}

// offerWorkloadAPI lets the application's containers find the socket of the SPIFFE Workload API. Who says already where
// theirs is keeps it.
func (p *patch) offerWorkloadAPI() {
	for _, c := range containers(&p.pod.Spec) {
		if hasEnv(c, workloadEnv) {
			p.warn("container %s has %s of its own and keeps it", c.Name, workloadEnv)
			continue
		}
		c.Env = append(c.Env, corev1.EnvVar{Name: workloadEnv, Value: "unix://" + workloadAPI})
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: workloadVolume, MountPath: workloadDir, ReadOnly: true})
	}
}

func hasEnv(c *corev1.Container, name string) bool {
	for _, e := range c.Env {
		if e.Name == name {
			return true
		}
	}
	return false
}

// refuseSocket looks for containers that have something else where the socket is going to be.
func refuseSocket(pod *corev1.Pod, s settings) []Refusal {
	if !s.workloadAPI {
		return nil
	}
	var found []Refusal
	for _, c := range containers(&pod.Spec) {
		for _, m := range c.VolumeMounts {
			if path.Clean(m.MountPath) == workloadDir {
				found = append(found, Refusal{
					fmt.Sprintf("container %s has a volume at %s, where the Workload API's socket belongs", c.Name, workloadDir),
					"mount it elsewhere, or remove the annotation " + workloadAPIKey,
				})
			}
		}
	}
	return found
}
