package images

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The images of deploy/Dockerfile are for people, those made here are tested: where the two say the same thing twice, it
// must be the same. That its Envoy is the tested one, a test of sidecar/envoy holds.
func TestTheDockerfileMakesTheImagesThatAreTested(t *testing.T) {
	stages := dockerfile(t)
	for stage, want := range map[string][]string{
		"build": {
			"-ldflags \"-s -w -X github.com/heddle-mesh/heddle/buildinfo.version=$VERSION\" \\",
			"-o /out/ ./cmd/heddle ./cmd/heddle-sidecar",
		},
		"heddle": {"COPY --from=build /out/heddle /heddle", "WORKDIR /", "USER " + heddleUser, `ENTRYPOINT ["/heddle"]`},
		"heddle-proxy": {
			"COPY --from=envoy /out/envoy " + envoyPath, "COPY --from=build /out/heddle-sidecar /heddle-sidecar",
			"WORKDIR /", "USER " + ProxyUser, `ENTRYPOINT ["/heddle-sidecar"]`,
		},
	} {
		for _, line := range want {
			if !slices.Contains(stages[stage], line) {
				t.Errorf("the stage %s of deploy/Dockerfile has no line %q; it has\n%s", stage, line, strings.Join(stages[stage], "\n"))
			}
		}
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(mod), "\ngo ")
	version, _, _ = strings.Cut(version, "\n")
	if line := "ARG GO_VERSION=" + version[:strings.LastIndex(version, ".")]; !slices.Contains(stages[""], line) {
		t.Errorf("deploy/Dockerfile does not say %q, and go.mod asks for Go %s", line, version)
	}
}

// What the Dockerfile hands out runs nothing while it is made: so one machine makes it for all processors. And it has no
// shell, nor anything else to run, but our programs and what the distroless images bring.
func TestTheLastStagesOfTheDockerfileOnlyCopy(t *testing.T) {
	stages := dockerfile(t)
	for _, stage := range []string{"heddle", "heddle-proxy"} {
		if len(stages[stage]) < 4 || !strings.HasPrefix(stages[stage][0], "FROM gcr.io/distroless/") {
			t.Fatalf("the stage %s starts from something else than a distroless image: %q", stage, stages[stage])
		}
		for _, line := range stages[stage][1:] {
			if verb, _, _ := strings.Cut(line, " "); !slices.Contains([]string{"COPY", "WORKDIR", "USER", "ENTRYPOINT"}, verb) {
				t.Errorf("the stage %s has %q, and should only copy", stage, line)
			}
		}
	}
	for _, stage := range []string{"build", "envoy"} {
		if from := stages[stage][0]; !strings.HasPrefix(from, "FROM --platform=$BUILDPLATFORM ") {
			t.Errorf("the stage %s runs commands, and would do so under emulation: %s", stage, from)
		}
	}
}

// dockerfile gives the lines of each stage of deploy/Dockerfile, FROM first, without comments, blank lines and indentation;
// those before the first FROM are of stage "".
func dockerfile(t *testing.T) map[string][]string {
	t.Helper()
	content, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages, stage := map[string][]string{}, ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if strings.HasPrefix(line, "FROM ") {
			_, stage, _ = strings.Cut(line, " AS ")
		}
		stages[stage] = append(stages[stage], line)
	}
	return stages
}
