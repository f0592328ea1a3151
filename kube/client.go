package kube

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ClientOptions say which API server to speak to, and how fast. Zero values choose as kubectl does.
type ClientOptions struct {
	Kubeconfig string  // path; empty for $KUBECONFIG, ~/.kube/config, and inside a pod its ServiceAccount
	Context    string  // empty for the kubeconfig's current one
	UserAgent  string  // default heddle
	QPS        float32 // requests per second once Burst is used up; default 50
	Burst      int     // default 100
}

func (o ClientOptions) load() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.Context})
}

// Namespace is the one of the kubeconfig's context, as kubectl takes it where none is named; default if it has none.
func Namespace(o ClientOptions) string {
	namespace, _, err := o.load().Namespace()
	if err != nil || namespace == "" {
		return "default"
	}
	return namespace
}

// Contexts are the names that --context may have, in order.
func Contexts(o ClientOptions) []string {
	raw, err := o.load().RawConfig()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(raw.Contexts))
}

// noKubeconfig says why there is no configuration, of which KUBECONFIG may name files that are not there.
func noKubeconfig() error {
	if named := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); named != "" {
		return fmt.Errorf("find the API server: KUBECONFIG names %s, where there is no kubeconfig, and this is no pod; name one that is there, or give --kubeconfig FILE", named)
	}
	return errors.New("find the API server: there is no kubeconfig and this is no pod; give --kubeconfig FILE or set KUBECONFIG")
}

// ClientConfig finds the API server and the credentials for it.
func ClientConfig(o ClientOptions) (*rest.Config, error) {
	config, err := o.load().ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err) && o.Kubeconfig == "" && o.Context == "":
		return nil, noKubeconfig()
	case err != nil:
		return nil, fmt.Errorf("find the API server: %w; `kubectl config get-contexts` lists what there is", err)
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.UserAgent = orDefault(o.UserAgent, "heddle")
	config.QPS = orDefault(o.QPS, 50)
	config.Burst = orDefault(o.Burst, 100)
	return config, nil
}

func orDefault[T comparable](v, absent T) T {
	var zero T
	if v == zero {
		return absent
	}
	return v
}
