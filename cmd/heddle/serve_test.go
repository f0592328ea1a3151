package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheSocketStandsOnlyWhereNobodyElseCanReplaceIt(t *testing.T) {
	own := filepath.Join(t.TempDir(), "new", "folder")
	if err := makeOwnFolder(own); err != nil {
		t.Errorf("a new folder: %v", err)
	}
	if err := makeOwnFolder(os.TempDir()); err != nil {
		t.Errorf("the system's temporary folder: %v", err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := makeOwnFolder(open); err == nil || !strings.Contains(err.Error(), "everybody may write") {
		t.Errorf("a folder that everybody may write to: got %v", err)
	}
}
