package check

import (
	"fmt"

	"time"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/heddle-mesh/heddle/buildinfo"
)

func controlPlaneGroup() group {
	behind := []string{"control-plane-api"}
	return group{"heddle-api", []item{
		{"control-plane-api", "control plane's API answers", []string{"trust-bundle", "control-plane-pods"}, answers},
		{"control-plane-ready", "control plane is ready", behind, ready},
		{"control-plane-kubernetes", "control plane can talk to Kubernetes", behind, talks},
		{"control-plane-certificates", "control plane's own certificates are being renewed", behind, ownCertificates},
	}}
}

func answers(f *Facts, _ Options) outcome {
	if f.Replicas.Err != nil {
		return fail(f.Replicas.Err.Error(), "heddle reaches it by port-forward, with a token: docs/cli.md lists the rights that this takes")
	}
	var wrong []string
	for _, r := range f.Replicas.Value {
		if r.Err != nil {
			wrong = append(wrong, fmt.Sprintf("pod %s/%s: %v", f.ControlPlane, r.Pod, r.Err))
		}
	}
	return none(wrong, "kubectl logs -n "+f.ControlPlane+" deploy/"+ServerName+" tells what it is about")
}

func ready(f *Facts, _ Options) outcome {
	var wrong []string
	for _, r := range f.Replicas.Value {
		if !r.Health.Ready {
			wrong = append(wrong, fmt.Sprintf("pod %s/%s has not read the whole mesh yet, or is stopping", f.ControlPlane, r.Pod))
		}
	}
	return none(wrong, "heddle check --wait 2m waits for it")
}

func talks(f *Facts, _ Options) outcome {
	var wrong []string
	for _, r := range f.Replicas.Value {
		if !r.Health.Source {
			wrong = append(wrong, fmt.Sprintf("pod %s/%s has no answer from the Kubernetes API since %s: %s", f.ControlPlane, r.Pod, r.Health.Since.UTC().Format(time.RFC3339), r.Health.Reason))
		}
	}
	return none(wrong, "sidecars keep what they have meanwhile; look at the network between the control plane's pods and the API server")
}

func ownCertificates(f *Facts, o Options) outcome {
	if f.Identity.Value == nil {
		return skip("nobody that you may ask knows them")
	}
	var wrong []string
	for _, l := range f.Identity.Value.ControlPlane {
		if why := unrenewed(lifeOf(l.NotBefore, l.NotAfter), l.NotAfter, o.Now); why != "" {
			wrong = append(wrong, l.ID+" "+why)
		}
	}
	return none(wrong, f.onSigner("heddle identity")+" shows whether anything is signed")
}

func releaseGroup() group {
	return group{"heddle-version", []item{
		{"cli-latest", "cli is up to date", nil, latest},
		{"control-plane-replicas", "control plane replicas are of one version", []string{"control-plane-api"}, sameReplicas},
		{"control-plane-version", "control plane and cli versions match", []string{"control-plane-api"}, sameVersion},
	}}
}

func latest(f *Facts, o Options) outcome {
	switch {
	case f.Latest.Err != nil:
		return skip("offline, or nobody tells of releases: " + f.Latest.Err.Error())
	case f.Latest.Value == "":
		return skip("nobody was asked for the latest release")
	case older(o.Version, f.Latest.Value):
		return warn(fmt.Sprintf("this heddle is %s and the latest release is %s", o.Version, f.Latest.Value), "read CHANGELOG.md, and install the new one")
	}
	return ok()
}

// older compares versions. Of those that are none, as of a build without one, only the same is as good.
func older(own, latest string) bool {
	a, errA := version.ParseSemantic(own)
	b, errB := version.ParseSemantic(latest)
	if errA != nil || errB != nil {
		return own != latest
	}
	return a.LessThan(b)
}

func sameReplicas(f *Facts, _ Options) outcome {
	first := ""
	for _, r := range f.Replicas.Value {
		if first == "" {
			first = r.Version.Version
		}
		if r.Version.Version != first {
			return warn(fmt.Sprintf("pod %s/%s is %s and others are %s", f.ControlPlane, r.Pod, r.Version.Version, first), "an upgrade is under way: kubectl rollout status -n "+f.ControlPlane+" deploy/"+ServerName)
		}
	}
	return ok()
}

// sameVersion is content if one replica is of this version: that they differ is another check's.
func sameVersion(f *Facts, o Options) outcome {
	for _, r := range f.Replicas.Value {
		if r.Version.Version == o.Version {
			return ok()
		}
	}
	return warn(fmt.Sprintf("the control plane is %s and this heddle is %s", f.serverVersion().Version, o.Version),
		"install the heddle of the control plane's version, or bring that up to this one: heddle upgrade | kubectl apply -f -")
}

// serverVersion is the control plane's; empty if nobody says.
func (f *Facts) serverVersion() buildinfo.Info {
	for _, r := range f.Replicas.Value {
		if r.Err == nil {
			return r.Version
		}
	}
	return buildinfo.Info{}
}
