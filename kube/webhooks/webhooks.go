// Package webhooks keeps the API server's trust in our webhooks current: the caBundle of each entry of our two webhook
// configurations holds the CA certificates that the control plane trusts, and no others.
//
// Every replica watches both configurations ([Trust.Run]), and one writes what differs ([Trust.Write]). What every replica
// sees counts in a rotation of the CA: a bundle is not in use here before the API server is told of it ([Trust.Carries]),
// so nobody signs for our webhooks whom the API server does not know yet.
//
// A configuration that does not exist is told nothing and holds nothing up.
package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Names of our configurations.
const (
	Injector = "heddle-injector" // MutatingWebhookConfiguration
	Policy   = "heddle-policy"   // ValidatingWebhookConfiguration
)

const (
	fieldManager = "heddle-webhooks"
	writeTimeout = 10 * time.Second
	// again is how soon a write that failed is tried again.
	again = 2 * time.Second
	// lateAfter is how long the API server may lack something before a line of the log says so.
	lateAfter = time.Minute
)

// Options say what the API server is to trust. All but the names and Log are required. Needed are, on both configurations,
// list and watch, and patch for who writes.
type Options struct {
	Client kubernetes.Interface
	// CA gives the certificates in PEM, none for not known yet, with a channel that is closed when they may have changed.
	CA       func() ([]byte, <-chan struct{})
	Injector string // default Injector
	Policy   string // default Policy
	Log      zerolog.Logger
}

// Trust is what the API server trusts our webhooks by.
type Trust struct {
	options Options

	mu      sync.Mutex
	seen    map[kind]configuration // of those that exist
	synced  map[kind]bool
	changed chan struct{} // closed and replaced when seen or synced has changed
}

type kind string

const (
	mutating   kind = "mutatingwebhookconfigurations"
	validating kind = "validatingwebhookconfigurations"
)

func kinds() []kind { return []kind{mutating, validating} }

// configuration is as much of one as matters here.
type configuration struct {
	version string            // of the object
	bundles map[string][]byte // caBundle by the entry's name, of entries that ask a Service
}

// New prepares; nothing is sent before Run.
func New(o Options) *Trust {
	if o.Injector == "" {
		o.Injector = Injector
	}
	if o.Policy == "" {
		o.Policy = Policy
	}
	return &Trust{options: o, seen: map[kind]configuration{}, synced: map[kind]bool{}, changed: make(chan struct{})}
}

func (t *Trust) name(k kind) string {
	if k == mutating {
		return t.options.Injector
	}
	return t.options.Policy
}

// Carries says whether the API server is told of exactly these certificates wherever it asks us, as far as we have heard.
func (t *Trust) Carries(pem []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range kinds() {
		if !t.synced[k] {
			return false
		}
		if c, ok := t.seen[k]; ok && len(c.lacking(pem)) > 0 {
			return false
		}
	}
	return true
}

// Changed gives a channel that is closed when Carries may say otherwise.
func (t *Trust) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// Write writes, until ctx ends, whatever differs from what it should be. It is for one replica at a time.
func (t *Trust) Write(ctx context.Context) {
	for ctx.Err() == nil {
		pem, newCA := t.options.CA()
		seen := t.Changed()
		failed := false
		if pem != nil {
			for _, k := range kinds() {
				failed = t.write(ctx, k, pem) != nil || failed
			}
		}
		var retry <-chan time.Time
		if failed {
			retry = time.After(again)
			seen = nil // what we see is what could not be written
		}
		select {
		case <-newCA:
		case <-seen:
		case <-retry:
		case <-ctx.Done():
		}
	}
}

// write writes one configuration, if it lacks something.
func (t *Trust) write(ctx context.Context, k kind, pem []byte) error {
	t.mu.Lock()
	c, ok := t.seen[k]
	t.mu.Unlock()
	lacking := c.lacking(pem)
	if !ok || len(lacking) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	patch, err := c.patch(lacking, pem)
	if err == nil {
		err = t.send(ctx, k, patch)
	}
	switch {
	case err == nil:
		t.options.Log.Info().Str("kind", string(k)).Str("name", t.name(k)).Strs("webhooks", lacking).Msg("told the API server whom to trust as our webhooks")
	case apierrors.IsConflict(err), apierrors.IsNotFound(err): // it is about to be seen as it is
	case ctx.Err() != nil:
	default:
		t.options.Log.Warn().Err(err).Str("kind", string(k)).Str("name", t.name(k)).Dur("retry", again).
			Msg("cannot write whom the API server is to trust as our webhooks; a rotation of the CA waits for it")
	}
	return err
}

// lacking names the entries with another caBundle, in order.
func (c configuration) lacking(pem []byte) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.bundles)) {
		if !bytes.Equal(c.bundles[name], pem) {
			names = append(names, name)
		}
	}
	return names
}

// patch is a strategic merge, in which entries go by their name, on the condition that the object is what was seen.
func (c configuration) patch(names []string, pem []byte) ([]byte, error) {
	type client struct {
		CABundle []byte `json:"caBundle"`
	}
	type entry struct {
		Name         string `json:"name"`
		ClientConfig client `json:"clientConfig"`
	}
	var patch struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Webhooks []entry `json:"webhooks"`
	}
	patch.Metadata.ResourceVersion = c.version
	for _, name := range names {
		patch.Webhooks = append(patch.Webhooks, entry{name, client{pem}})
	}
	return json.Marshal(patch)
}

func (t *Trust) send(ctx context.Context, k kind, patch []byte) (err error) {
	registrations, o := t.options.Client.AdmissionregistrationV1(), metav1.PatchOptions{FieldManager: fieldManager}
	switch k {
	case mutating:
		_, err = registrations.MutatingWebhookConfigurations().Patch(ctx, t.name(k), types.StrategicMergePatchType, patch, o)
	default:
		_, err = registrations.ValidatingWebhookConfigurations().Patch(ctx, t.name(k), types.StrategicMergePatchType, patch, o)
	}
	return err
}

// read takes from an object what matters here.
func read(o any) (name string, c configuration, err error) {
	c.bundles = map[string][]byte{}
	take := func(m metav1.ObjectMeta) { name, c.version = m.Name, m.ResourceVersion }
	entry := func(name string, to admissionv1.WebhookClientConfig) {
		if to.Service != nil { // one with a URL is none of ours
			c.bundles[name] = to.CABundle
		}
	}
	switch o := o.(type) {
	case *admissionv1.MutatingWebhookConfiguration:
		take(o.ObjectMeta)
		for _, w := range o.Webhooks {
			entry(w.Name, w.ClientConfig)
		}
		return name, c, nil
	case *admissionv1.ValidatingWebhookConfiguration:
		take(o.ObjectMeta)
		for _, w := range o.Webhooks {
			entry(w.Name, w.ClientConfig)
		}
		return name, c, nil
	}
	return "", c, fmt.Errorf("watch webhook configurations: got a %T", o)
}

func example(k kind) runtime.Object {
	if k == mutating {
		return &admissionv1.MutatingWebhookConfiguration{}
	}
	return &admissionv1.ValidatingWebhookConfiguration{}
}
