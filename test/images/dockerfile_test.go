package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/sidecar/envoy"
)

// The images of deploy/Dockerfile are for people, those made here are tested: where the two say the same thing twice, it
// must be the same.
func TestTheDockerfileMakesTheImagesThatAreTested(t *testing.T) {
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, "deploy", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"ARG ENVOY_VERSION=" + envoy.Version,
		"COPY --from=envoy /usr/local/bin/envoy " + envoyPath,
		"USER " + ProxyUser,
		"USER " + heddleUser,
		`ENTRYPOINT ["/heddle"]`,
		`ENTRYPOINT ["/heddle-sidecar"]`,
	} {
		if !strings.Contains(string(content), "\n"+line+"\n") {
			t.Errorf("deploy/Dockerfile has no line %q", line)
		}
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(mod), "\ngo ")
	version, _, _ = strings.Cut(version, "\n")
	if minor := version[:strings.LastIndex(version, ".")]; !strings.Contains(string(content), "\nARG GO_VERSION="+minor+"\n") {
		t.Errorf("deploy/Dockerfile does not build with Go %s, which go.mod asks for", minor)
	}
}
