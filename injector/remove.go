package injector

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/model"
)

// Remove takes the sidecar out of a copy of a pod that has it, as [Patch] put it in; ok is false for a pod without one.
// What Patch replaced comes back with the same meaning: the port of a probe or hook is a number though it may have had a name, and a
// pause that is as long as Patch would make it is taken for one of Patch's.
func Remove(pod *corev1.Pod) (without *corev1.Pod, ok bool, err error) {
	if !hasContainer(&pod.Spec, SidecarContainer) || pod.Labels[model.SidecarLabel] != "true" {
		return nil, false, nil
	}
	p := pod.DeepCopy()
	probes, err := probesOf(&p.Spec)
	if err != nil {
		return nil, false, err
	}
	p.Spec.InitContainers = slices.DeleteFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == InitContainer || c.Name == SidecarContainer
	})
	p.Spec.Volumes = slices.DeleteFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return isOurVolume(v.Name) })
	delete(p.Labels, model.SidecarLabel)
	pause := pauseOf(p)
	for _, c := range containers(&p.Spec) {
		c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == workloadVolume })
		c.Env = slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == workloadEnv && e.Value == "unix://"+workloadAPI })
		restoreProbes(c, probes)
		if l := c.Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil && l.PreStop.Sleep.Seconds == pause {
			if l.PreStop = nil; l.PostStart == nil && l.StopSignal == nil {
				c.Lifecycle = nil
			}
		}
	}
	return p, true, nil
}

func isOurVolume(name string) bool {
	return slices.Contains([]string{tokenVolume, trustVolume, podInfoVolume, runVolume, workloadVolume}, name)
}

// pauseOf is how long Patch lets the containers of a pod go on, in seconds.
func pauseOf(pod *corev1.Pod) int64 {
	s, _ := settingsOf(pod) // what is wrong with other annotations does not matter here
	seconds, _ := s.pause(&pod.Spec)
	return seconds
}

// probesOf are the probes that the sidecar performs.
func probesOf(spec *corev1.PodSpec) (map[string]corev1.Probe, error) {
	probes := map[string]corev1.Probe{}
	for _, c := range spec.InitContainers {
		for _, e := range c.Env {
			if c.Name != SidecarContainer || e.Name != ProbesEnv {
				continue
			}
			if err := json.Unmarshal([]byte(strings.ReplaceAll(e.Value, "$$", "$")), &probes); err != nil {
				return nil, fmt.Errorf("read %s of container %s: %w", ProbesEnv, SidecarContainer, err)
			}
		}
	}
	return probes, nil
}

func restoreProbes(c *corev1.Container, probes map[string]corev1.Probe) {
	for kind, probe := range probeKinds(c) {
		if original, ok := probes[c.Name+"/"+kind]; ok && probe != nil {
			probe.ProbeHandler = original.ProbeHandler
		}
	}
	for kind, hook := range hooks(c) {
		if original, ok := probes[c.Name+"/"+kind]; ok && hook != nil {
			hook.HTTPGet = original.HTTPGet
		}
	}
}
