package injector

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheDocumentHasEveryAnnotationAndEveryCase(t *testing.T) {
	text := string(must(os.ReadFile("../docs/injection.md")))
	for _, key := range known() {
		if !strings.Contains(text, "\n| `"+key+"` |") {
			t.Errorf("docs/injection.md has no row for %s", key)
		}
	}
	for _, value := range []string{defaultCPURequest, defaultMemoryRequest, minMemoryLimit, workloadDir} {
		if !strings.Contains(text, "`"+value+"`") {
			t.Errorf("docs/injection.md does not say %s", value)
		}
	}
	for _, path := range must(filepath.Glob("testdata/*.txtar")) {
		if !strings.Contains(text, "(../injector/"+path+")") {
			t.Errorf("docs/injection.md does not link to %s", path)
		}
	}
}
