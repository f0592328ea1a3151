package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/controlplane"
)

func TestDefaultAnnotationsAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]annotations{
		"":                         nil,
		"heddle.dev/drain-time=9s": {"heddle.dev/drain-time": "9s"},
		"a=1,b=2":                  {"a": "1", "b": "2"},
		`"heddle.dev/skip-inbound-ports=22,80",b=`: {"heddle.dev/skip-inbound-ports": "22,80", "b": ""},
	} {
		got := annotations{"old": "one"}
		if err := got.Set(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	var a annotations
	if err := a.Set("a"); err == nil || !strings.Contains(err.Error(), "want KEY=VALUE") {
		t.Errorf("without a value: %v", err)
	}
}

func TestAServerWithWebhooksWantsTheImageOfSidecars(t *testing.T) {
	f := webhookFlags{address: ":15017"}
	if _, err := f.additions(nil, nil, controlplane.Options{}); err == nil || !strings.Contains(err.Error(), "--proxy-image") {
		t.Errorf("without an image: %v", err)
	}
	f.address = ""
	if a, err := f.additions(nil, nil, controlplane.Options{}); err != nil || a.Webhooks != nil {
		t.Errorf("without webhooks: %+v, %v", a, err)
	}
}
