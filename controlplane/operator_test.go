package controlplane

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheOperatorsSocketIsBornPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := ListenPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %o", info.Mode().Perm())
	}
}
