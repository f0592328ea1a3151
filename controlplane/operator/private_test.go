package operator

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestTheSocketStandsOnlyWhereNobodyElseCanReplaceIt(t *testing.T) {
	own := filepath.Join(t.TempDir(), "new", "folder")
	if err := OwnFolder(own); err != nil {
		t.Errorf("a new folder: %v", err)
	}
	if err := OwnFolder(os.TempDir()); err != nil {
		t.Errorf("the system's temporary folder: %v", err)
	}
	for _, mode := range []os.FileMode{0o777, 0o770, 0o702} {
		if err := os.Chmod(own, mode); err != nil {
			t.Fatal(err)
		}
		if err := OwnFolder(own); err == nil || !strings.Contains(err.Error(), "others may write") {
			t.Errorf("a folder of mode %o: got %v", mode, err)
		}
	}
}

func TestNothingIsSaidToASocketThatAnotherUserCouldHavePutThere(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Bool
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) })}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	err = Client{Socket: socket}.Call(t.Context(), http.MethodPost, RotatePath, Rotation{Key: "secret"}, nil)
	if err == nil || !strings.Contains(err.Error(), "others may write") {
		t.Errorf("got %v", err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	<-ended
	if asked.Load() {
		t.Error("it was asked all the same")
	}
}

func TestWhoServesIsAskedOfTheKernel(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := servedBy(conn.(*net.UnixConn), os.Getuid()); err != nil {
		t.Errorf("our own: %v", err)
	}
	err = servedBy(conn.(*net.UnixConn), os.Getuid()+1)
	if refused := err != nil && strings.Contains(err.Error(), "neither you nor root"); refused == (os.Getuid() == 0) {
		t.Errorf("another user's, as user %d: %v", os.Getuid(), err)
	}
	if trusted(1000, 1001) || !trusted(0, 1001) || !trusted(1001, 1001) {
		t.Error("who is trusted: want root and ourselves")
	}
}
