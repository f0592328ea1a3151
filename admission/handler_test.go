package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// injectorFunc is an Injector.
type injectorFunc func(pod *corev1.Pod, at Place) (Injection, error)

func (f injectorFunc) Inject(pod *corev1.Pod, at Place) (Injection, error) { return f(pod, at) }

// labels are the Namespaces that a test knows.
type labels map[string]map[string]string

func (l labels) Labels(_ context.Context, name string) (map[string]string, error) {
	if found, ok := l[name]; ok {
		return found, nil
	}
	return nil, errors.New("there is none")
}

// tries is a Policies.
type tries func(*model.PolicyText) (map[string][]policy.Problem, error)

func (f tries) Try(_ context.Context, t *model.PolicyText) (map[string][]policy.Problem, error) {
	return f(t)
}

// review makes the request that an API server would.
func review(t testing.TB, resource, kind string, o any, change ...func(*admissionv1.AdmissionReview)) []byte {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "review-1", Operation: admissionv1.Create, Namespace: "shop", Name: "catalog",
			Kind:     metav1.GroupVersionKind{Version: "v1", Kind: kind},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: resource},
			Object:   runtime.RawExtension{Raw: raw},
		},
	}
	for _, c := range change {
		c(r)
	}
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func update(t testing.TB, old any) func(*admissionv1.AdmissionReview) {
	raw, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *admissionv1.AdmissionReview) {
		r.Request.Operation, r.Request.OldObject.Raw = admissionv1.Update, raw
	}
}

func post(o Options, path string, body []byte, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	o.Log = zerolog.Nop()
	NewHandler(o).ServeHTTP(w, r)
	return w
}

// answer is the response to a review.
func answer(t testing.TB, o Options, path string, body []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	w := post(o, path, body)
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var r admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Response == nil || r.Response.UID != "review-1" || r.Kind != "AdmissionReview" || r.APIVersion != "admission.k8s.io/v1" {
		t.Fatalf("the answer is %s", w.Body)
	}
	return r.Response
}

func TestWhatIsNoReviewIsRefusedWithAReason(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	with := func(change func(*admissionv1.AdmissionReview)) []byte { return review(t, "pods", "Pod", pod, change) }
	for name, c := range map[string]struct {
		body   []byte
		change func(*http.Request)
		status int
		reason string
	}{
		"GET":             {nil, func(r *http.Request) { r.Method = http.MethodGet }, 405, "Method Not Allowed"},
		"another path":    {nil, func(r *http.Request) { r.URL.Path = "/else" }, 404, "not found"},
		"no content type": {nil, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, "application/json"},
		"YAML":            {nil, func(r *http.Request) { r.Header.Set("Content-Type", "application/yaml") }, 415, "application/yaml"},
		"nothing":         {nil, nil, 400, "no AdmissionReview"},
		"no JSON":         {[]byte("{"), nil, 400, "no AdmissionReview"},
		"another type":    {[]byte(`{"request": 7}`), nil, 400, "no AdmissionReview"},
		"too large":       {bytes.Repeat([]byte(" "), maxBody+1), nil, 413, "more than 8388608 bytes"},
		"v1beta1":         {with(func(r *admissionv1.AdmissionReview) { r.APIVersion = "admission.k8s.io/v1beta1" }), nil, 400, "v1beta1"},
		"another kind":    {with(func(r *admissionv1.AdmissionReview) { r.Kind = "Pod" }), nil, 400, `"Pod"`},
		"no request":      {with(func(r *admissionv1.AdmissionReview) { r.Request = nil }), nil, 400, "no request"},
		"no uid":          {with(func(r *admissionv1.AdmissionReview) { r.Request.UID = "" }), nil, 400, "without a uid"},
		"a Service":       {with(func(r *admissionv1.AdmissionReview) { r.Request.Kind.Kind = "Service" }), nil, 400, "want Pod of v1"},
		"Deployments":     {with(func(r *admissionv1.AdmissionReview) { r.Request.Resource.Resource = "deployments" }), nil, 400, "correct the webhook's rules"},
		"a subresource":   {with(func(r *admissionv1.AdmissionReview) { r.Request.SubResource = "status" }), nil, 400, "pods/status"},
		"no namespace":    {with(func(r *admissionv1.AdmissionReview) { r.Request.Namespace = "" }), nil, 400, "no namespace"},
		"deletion":        {with(func(r *admissionv1.AdmissionReview) { r.Request.Operation = admissionv1.Delete }), nil, 400, "DELETE"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []Review
			change := c.change
			if change == nil {
				change = func(*http.Request) {}
			}
			w := post(Options{Observe: func(r Review) { seen = append(seen, r) }}, InjectPath, c.body, change)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.reason) {
				t.Errorf("answered %d %q, want %d with %q", w.Code, w.Body, c.status, c.reason)
			}
			for _, r := range seen {
				if r.Outcome != Invalid || r.Webhook != "inject" {
					t.Errorf("it counts as %+v", r)
				}
			}
		})
	}
}

func TestAnObjectThatCannotBeReadIsRefused(t *testing.T) {
	r := answer(t, Options{}, InjectPath, review(t, "pods", "Pod", map[string]any{"spec": 7}))
	if r.Allowed || r.Result.Code != 400 || !strings.Contains(r.Result.Message, "reading the Pod") {
		t.Errorf("the answer is %+v", r)
	}
}

// catalog is a pod, and itself with a sidecar.
func catalog() (pod, patched *corev1.Pod) {
	pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "catalog-"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}
	patched = pod.DeepCopy()
	patched.Namespace, patched.Labels = "shop", map[string]string{"heddle.dev/sidecar": "true"}
	patched.Spec.InitContainers = []corev1.Container{{Name: "heddle-proxy"}}
	return pod, patched
}

// injecting are options with an Injector that gives this, and keeps where it was asked to.
func injecting(result Injection, err error, at *Place) Options {
	return Options{Namespaces: labels{"shop": {"team": "a"}}, Injector: injectorFunc(func(p *corev1.Pod, where Place) (Injection, error) {
		*at = where
		p.Labels = map[string]string{"changed": "in place"} // as it must not show
		return result, err
	})}
}

func TestAPodIsPatchedAsTheInjectorSays(t *testing.T) {
	var at Place
	pod, patched := catalog()
	r := answer(t, injecting(Injection{Pod: patched, Warnings: []string{"hm"}}, nil, &at), InjectPath, review(t, "pods", "Pod", pod))
	if !r.Allowed || r.PatchType == nil || *r.PatchType != admissionv1.PatchTypeJSONPatch || r.AuditAnnotations["injection"] != "injected" {
		t.Errorf("the answer for an injected pod is %+v", r)
	}
	var operations []struct{ Op, Path string }
	if err := json.Unmarshal(r.Patch, &operations); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, op := range operations {
		got[op.Path] = op.Op
	}
	if diff := cmp.Diff(map[string]string{"/metadata/labels": "add", "/spec/initContainers": "add"}, got); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Place{"shop", map[string]string{"team": "a"}, "review-1"}, at); diff != "" {
		t.Errorf("the injector is told of (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"hm"}, r.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestAPodThatIsNotPatchedIsRefusedOrLeftAloneWithAReason(t *testing.T) {
	pod, patched := catalog()
	o := func(result Injection, err error) Options { return injecting(result, err, new(Place)) }
	r := answer(t, o(Injection{Refusal: "no room; make some"}, nil), InjectPath, review(t, "pods", "Pod", pod))
	if r.Allowed || r.Result.Code != 403 || r.Result.Message != "pod shop/catalog-* cannot have a Heddle sidecar: no room; make some" {
		t.Errorf("the answer for a refused pod is %+v %+v", r, r.Result)
	}
	r = answer(t, o(Injection{Reason: "host network"}, nil), InjectPath, review(t, "pods", "Pod", pod))
	if !r.Allowed || r.Patch != nil || r.AuditAnnotations["injection"] != "left alone: host network" {
		t.Errorf("the answer for a pod that is left alone is %+v", r)
	}
	r = answer(t, o(Injection{}, errors.New("no image given")), InjectPath, review(t, "pods", "Pod", pod))
	if r.Allowed || r.Result.Code != 500 || !strings.Contains(r.Result.Message, "no image given") {
		t.Errorf("the answer after a fault is %+v %+v", r, r.Result)
	}
	elsewhere := func(r *admissionv1.AdmissionReview) { r.Request.Namespace = "nowhere" }
	r = answer(t, o(Injection{}, nil), InjectPath, review(t, "pods", "Pod", pod, elsewhere))
	if r.Allowed || r.Result.Code != 500 || !strings.Contains(r.Result.Message, "look at its namespace") {
		t.Errorf("the answer for an unknown namespace is %+v %+v", r, r.Result)
	}
	r = answer(t, o(Injection{Pod: patched}, nil), InjectPath, review(t, "pods", "Pod", pod, update(t, pod)))
	if !r.Allowed || r.Patch != nil {
		t.Errorf("the answer for a pod that is there is %+v", r)
	}
}

func TestFieldsNewerThanOursStayInAPod(t *testing.T) {
	inject := injectorFunc(func(p *corev1.Pod, _ Place) (Injection, error) {
		p.Labels = map[string]string{"a": "b"}
		return Injection{Pod: p}, nil
	})
	body := review(t, "pods", "Pod", map[string]any{"metadata": map[string]any{"name": "a"}, "spec": map[string]any{"ofNextYear": true}})
	r := answer(t, Options{Injector: inject, Namespaces: labels{"shop": nil}}, InjectPath, body)
	if patch := string(r.Patch); strings.Contains(patch, "ofNextYear") || !strings.Contains(patch, "/metadata/labels") {
		t.Errorf("the patch is %s", patch)
	}
}

func FuzzNoBodyStopsTheWebhooks(f *testing.F) {
	f.Add("/inject", review(f, "pods", "Pod", &corev1.Pod{}))
	f.Add("/policy", review(f, "configmaps", "ConfigMap", &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{policy.Label: "true"}}, Data: map[string]string{"a.yaml": "kind: Traffic\n"},
	}))
	f.Add("/policy", []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"a"}}`))
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		if path != InjectPath && path != PolicyPath {
			return
		}
		o := Options{Namespaces: labels{"shop": nil}, Injector: injectorFunc(func(p *corev1.Pod, _ Place) (Injection, error) {
			return Injection{Pod: p}, nil
		})}
		switch w := post(o, path, body); w.Code {
		case http.StatusOK, http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		default:
			t.Errorf("answered %d: %s", w.Code, w.Body)
		}
	})
}
