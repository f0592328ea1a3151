package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/heddle-mesh/heddle/test/secrets"
)

// saidVariable names a folder for what the programs of scripts print.
const saidVariable = "HEDDLE_TEST_SAID"

func TestMain(m *testing.M) {
	program := func() {
		out, errs := io.Writer(os.Stdout), io.Writer(os.Stderr)
		if dir := os.Getenv(saidVariable); dir != "" {
			said, err := os.CreateTemp(dir, "said-")
			if err != nil {
				panic(err)
			}
			out, errs = io.MultiWriter(said, out), io.MultiWriter(said, errs)
		}
		os.Exit(run(arguments(os.Args), os.Stdin, out, errs))
	}
	testscript.Main(m, map[string]func(){"heddle": program, "kubectl-heddle": program, "kubectl_complete-heddle": program})
}

// TestScripts runs the command line as a person does; testdata/script has what is typed and what comes back.
func TestScripts(t *testing.T) {
	said := t.TempDir()
	t.Cleanup(func() { lookAtAll(t, said) })
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv(saidVariable, said)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"eventually": eventually, "given-ca": givenCA},
	})
}

// lookAtAll looks for secrets in what each program has printed.
func lookAtAll(t *testing.T, said string) {
	scan := secrets.New(t)
	files, err := os.ReadDir(said)
	if err != nil {
		t.Error(err)
	}
	size := 0
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(said, f.Name()))
		if err != nil {
			t.Error(err)
		}
		scan.Look("what a program of a script prints", text)
		size += len(text)
	}
	if size < 1000 {
		t.Errorf("%d programs printed %d bytes: looking at them shows nothing", len(files), size)
	}
}

// eventually runs a command until what it prints matches: eventually PATTERN command arguments...
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("want eventually PATTERN command arguments...")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-tick.C {
		err := ts.Exec(args[1], args[2:]...)
		if printed := ts.ReadFile("stdout") + ts.ReadFile("stderr"); pattern.MatchString(printed) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("nothing that it printed within 30 s matches %s; it ended with %v", args[0], err)
		}
	}
}
