package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

func TestARecordingHoldsWhatPassedBeforeItsEnd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test listens on network interfaces, which takes root: run it as root on Linux, for example sudo -E make test")
	}
	conn, err := net.Dial("udp", serve(t, "udp", "--listen=127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(t.Context(), []string{"record", "--between=127.0.0.1,127.0.0.1", "--until=over-and-out"}, w)
		w.Close()
		ended <- err
	}()
	tape := bufio.NewReader(r)
	if line, err := tape.ReadString('\n'); err != nil || line != "recording\n" {
		t.Fatalf("it begins with %q, %v", line, err)
	}
	for _, text := range []string{"what was said", "over-and-out"} {
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
	}
	rest, err := io.ReadAll(tape)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(rest), "what was said") {
		t.Errorf("the tape of %d bytes does not hold what was said", len(rest))
	}
}
