package documents

import (
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/transcript"
)

// process is a command that runs until it is ended.
type process struct {
	command
	cmd   *exec.Cmd
	out   *transcript.Buffer
	ended chan error
}

func start(t *testing.T, dir string, c command) *process {
	t.Helper()
	p := &process{c, c.in(t.Context(), dir), &transcript.Buffer{}, make(chan error, 1)} // t's context ends it if the test fails
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	return p
}

// await waits for something that the command does.
func (p *process) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !done(); {
		select {
		case err := <-p.ended:
			t.Fatalf("%s: %s: ended by itself: %v\n%s", p.file, p.text, err, p.out)
		case <-tick.C:
			if time.Now().After(end) {
				t.Fatalf("%s: %s: not within %v: %s\n%s", p.file, p.text, patience, what, p.out)
			}
		}
	}
}

func (p *process) end(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-p.ended; err != nil {
		t.Errorf("%s: %s: ended by SIGTERM with %v\n%s", p.file, p.text, err, p.out)
	}
}

// plane is a control plane, to which the commands after it in the same file belong.
type plane struct {
	*process
	socket string
}

// serve runs a control plane until its socket answers.
func serve(t *testing.T, dir string, c command) *plane {
	t.Helper()
	i := slices.Index(strings.Fields(c.text), "--socket")
	if i < 0 {
		t.Fatalf("%s: %s: names no --socket", c.file, c.text)
	}
	p := &plane{start(t, dir, c), filepath.Join(dir, strings.Fields(c.text)[i+1])}
	p.await(t, "its socket answers", func() bool {
		c, err := net.Dial("unix", p.socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p
}

// end ends it, and wants nothing left of it.
func (p *plane) end(t *testing.T) {
	t.Helper()
	p.process.end(t)
	if exists(p.socket) {
		t.Errorf("%s: %s: left its socket behind", p.file, p.text)
	}
}

// startSidecar runs a sidecar until it has its identity. It has no Envoy here, which would bind the example's addresses:
// another test may have them.
func startSidecar(t *testing.T, dir string, c command) {
	t.Helper()
	c.text += " --no-envoy"
	p := start(t, dir, c)
	p.await(t, "it has a certificate", func() bool { return strings.Contains(p.out.String(), "certificate obtained") })
	p.end(t)
}
