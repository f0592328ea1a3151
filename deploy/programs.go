package deploy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/release/v1/util"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Program is what a Deployment of a rendering runs.
type Program struct {
	Deployment  string            // its name
	Args        []string          // of heddle, the command first
	Environment map[string]string // but for what the kubelet fills in
}

// Programs lists them from a text of Render, in its order.
func Programs(rendered string) ([]Program, error) {
	var all []Program
	documents := util.SplitManifests(rendered)
	for i := range len(documents) {
		var d appsv1.Deployment
		if err := yaml.Unmarshal([]byte(documents[fmt.Sprintf("manifest-%d", i)]), &d); err != nil || d.Kind != "Deployment" {
			continue // an object of another kind need not fit
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			p := Program{d.Name, c.Args, map[string]string{}}
			for _, e := range c.Env {
				if e.ValueFrom == nil {
					p.Environment[e.Name] = e.Value
				}
			}
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the objects have no Deployment that runs heddle")
	}
	return all, nil
}

// checkNamespace says why the control plane cannot be in a namespace.
func checkNamespace(name string) error {
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return fmt.Errorf("namespace %q is no name of one: %s; choose another, such as %s", name, strings.Join(problems, ", "), DefaultNamespace)
	}
	if strings.HasPrefix(name, "kube-") {
		return fmt.Errorf("namespace %s is Kubernetes' own: the Pod Security that the control plane's is held to would keep the cluster's pods from starting; choose one for Heddle alone, such as %s",
			name, DefaultNamespace)
	}
	return nil
}

// checkShutdown holds the steps of a pod's end against the time that it has for all of them, which a schema cannot do.
func checkShutdown(values map[string]any) error {
	var v struct {
		Shutdown struct {
			SleepSeconds int    `json:"sleepSeconds"`
			Drain        string `json:"drain"`
			GraceSeconds int    `json:"graceSeconds"`
		} `json:"shutdown"`
	}
	text, err := yaml.Marshal(values)
	if err == nil {
		err = yaml.Unmarshal(text, &v)
	}
	if err != nil {
		return fmt.Errorf("read the values shutdown: %w", err)
	}
	s := v.Shutdown
	drain, err := time.ParseDuration(s.Drain)
	if err != nil {
		return fmt.Errorf("the value shutdown.drain is %q: %w; write a time such as 5s", s.Drain, err)
	}
	sleep, grace := time.Duration(s.SleepSeconds)*time.Second, time.Duration(s.GraceSeconds)*time.Second
	if grace <= sleep+drain {
		return fmt.Errorf("the value shutdown.graceSeconds is %d, which must be more than shutdown.sleepSeconds, %d, and shutdown.drain, %s, together", s.GraceSeconds, s.SleepSeconds, s.Drain)
	}
	return nil
}
