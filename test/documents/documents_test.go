// Package documents holds the documents to what they promise: their commands work, their policies are good, and their
// links lead somewhere.
package documents

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// patience is how long a command may take; only one that hangs reaches it.
const patience = time.Minute

func TestCommandsInTheDocumentsWork(t *testing.T) {
	dir := workspace(t)
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	var running *plane // of the file
	for _, c := range commands(t) {
		ran++
		serves := strings.HasPrefix(c.text, "bin/heddle serve")
		if running != nil && (serves || running.file != c.file) {
			running.end(t)
			running = nil
		}
		if serves {
			running = serve(t, dir, c)
		} else {
			check(t, dir, string(makefile), c)
		}
	}
	if running != nil {
		running.end(t)
	}
	if ran < 5 {
		t.Errorf("found only %d commands", ran)
	}
}

// check runs a command, or looks whether what it names is there.
func check(t *testing.T, dir, makefile string, c command) {
	t.Helper()
	word, rest, _ := strings.Cut(c.text, " ")
	_, inPod, inAPod := strings.Cut(c.text, " -- /heddle ")
	switch {
	case inAPod:
		known(t, dir, command{c.file, "heddle " + inPod})
	case word == "make":
		if target := strings.Fields(rest)[0]; !regexp.MustCompile(`(?m)^` + target + `:`).MatchString(makefile) {
			t.Errorf("%s: make has no target %s", c.file, target)
		}
	case word == "bin/heddle" && strings.HasPrefix(rest, "sidecar"):
		startSidecar(t, dir, c)
	case word == "bin/heddle":
		if out, err := c.in(t.Context(), dir).CombinedOutput(); err != nil {
			t.Errorf("%s: %s: %v\n%s", c.file, c.text, err, out)
		}
	case word == "go":
		for _, arg := range strings.Fields(rest) {
			if strings.HasPrefix(arg, "./") && !exists(filepath.Join(root, strings.TrimSuffix(arg, "/..."))) {
				t.Errorf("%s: %s: there is no %s", c.file, c.text, arg)
			}
		}
	case word == "heddle":
		known(t, dir, c)
	case slices.Contains([]string{"git", "kubectl", "helm", "sudo", "cp", "sed"}, word): // of others; make e2e types the first walk
	default:
		t.Errorf("%s: %s: this test does not know how to check it", c.file, c.text)
	}
}

// known looks whether a command that needs a cluster, or another program behind it, is one, with the flags that it is given.
func known(t *testing.T, dir string, c command) {
	t.Helper()
	words := strings.Fields(regexp.MustCompile(`[|<>]`).Split(c.text, 2)[0])[1:]
	isFlag := func(w string) bool { return strings.HasPrefix(w, "-") && w != "-" }
	verbs := words
	if i := slices.IndexFunc(words, isFlag); i >= 0 {
		verbs = words[:i]
	}
	help := command{c.file, "bin/heddle " + strings.Join(verbs, " ") + " --help"}
	out, err := help.in(t.Context(), dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "heddle "+verbs[0]) {
		t.Errorf("%s: %s: %v\n%s", c.file, c.text, err, out)
	}
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		if isFlag(w) && !regexp.MustCompile(`(^|[\s,])`+regexp.QuoteMeta(name)+`[\s,]`).Match(out) {
			t.Errorf("%s: %s: there is no flag %s", c.file, c.text, name)
		}
	}
}

func TestPoliciesInTheDocumentsAreGood(t *testing.T) {
	dir := workspace(t)
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	found := 0
	for _, file := range documents(t) {
		for _, m := range block.FindAllStringSubmatch(read(t, file), -1) {
			if !strings.Contains(m[1], "kind: ConfigMap") {
				continue
			}
			found++
			cmd := command{file, "bin/heddle policy validate -"}.in(t.Context(), dir)
			cmd.Stdin = strings.NewReader(m[1])
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "warning:") {
				t.Errorf("%s: a policy in it is not good: %v\n%s", file, err, out)
			}
		}
	}
	if found == 0 {
		t.Error("found no policy")
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, file := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if !exists(filepath.Join(root, filepath.Dir(file), m[1])) {
				t.Errorf("%s links to %s, which does not exist", file, m[1])
			}
		}
	}
}

// command is one that a document tells people to run.
type command struct{ file, text string }

func (c command) in(ctx context.Context, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec "+c.text)
	cmd.Dir = dir
	// The ports may be taken on this machine.
	cmd.Env = append(os.Environ(), "HEDDLE_LISTEN=127.0.0.1:0", "HEDDLE_SIDECARS=127.0.0.1:0", "HEDDLE_SIGNER=127.0.0.1:0",
		"XDG_STATE_HOME="+filepath.Join(dir, "state"))
	return cmd
}

// commands are the lines that begin with a prompt.
func commands(t *testing.T) []command {
	t.Helper()
	var all []command
	for _, file := range documents(t) {
		lines := bufio.NewScanner(strings.NewReader(read(t, file)))
		inside := false
		for lines.Scan() {
			line := lines.Text()
			if strings.HasPrefix(line, "```") {
				inside = line == "```console"
			}
			if text, ok := strings.CutPrefix(line, "$ "); ok && inside {
				all = append(all, command{file, text})
			}
		}
	}
	return all
}

// documents are the Markdown files, from the repository's root.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rel)
		}
	}
	return all
}

// workspace is a folder like the repository after make build.
func workspace(t *testing.T) string {
	t.Helper()
	// Not t.TempDir: the path of a unix socket is short.
	dir, err := os.MkdirTemp("", "documents-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	examples, err := filepath.Abs(filepath.Join(root, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(examples, filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bin")+"/", "./cmd/...")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return dir
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
