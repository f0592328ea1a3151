package main

import (
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	program := func() { os.Exit(run(arguments(os.Args), os.Stdin, os.Stdout, os.Stderr)) }
	testscript.Main(m, map[string]func(){"heddle": program, "kubectl-heddle": program, "kubectl_complete-heddle": program})
}

// TestScripts runs the command line as a person does; testdata/script has what is typed and what comes back.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"eventually": eventually, "given-ca": givenCA},
	})
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
