package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
)

// Options describe an Envoy to run. Binary, unless Find is called, and most of Bootstrap must be set.
type Options struct {
	Binary      string            // from Find
	Bootstrap   bootstrap.Options // an empty Admin: a socket in the directory of this run
	Caller      bootstrap.Caller
	Concurrency int           // worker threads; default 2
	DrainTime   time.Duration // how long what is removed goes on serving what it has; default 10 minutes
	Grace       time.Duration // how long what is under way may go on after Run was told to end, before SIGTERM; default 0
	StopTimeout time.Duration // from SIGTERM to SIGKILL; default 10 s
	LogLevel    string        // Envoy's word for it; default warning
	Log         zerolog.Logger
	Dir         string // where the directory of this run is made; default: the system's for temporary files
}

// Proxy is one Envoy. Make it with [New], then call Run once.
type Proxy struct {
	options Options
	started chan struct{} // closed when admin and process are set
	ended   chan struct{} // closed when Run returns
	admin   *admin
	process *os.Process
}

// New gives a proxy that does nothing yet.
func New(o Options) *Proxy {
	o.Concurrency = orDefault(o.Concurrency, 2)
	o.DrainTime = orDefault(o.DrainTime, 10*time.Minute)
	o.StopTimeout = orDefault(o.StopTimeout, 10*time.Second)
	o.LogLevel = orDefault(o.LogLevel, "warning")
	return &Proxy{options: o, started: make(chan struct{}), ended: make(chan struct{})}
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Find looks for the binary, before Run.
func (p *Proxy) Find(ctx context.Context, o FindOptions) (err error) {
	p.options.Binary, err = Find(ctx, o)
	return err
}

// Run starts Envoy and returns when it has ended and its files are gone. When ctx is done Envoy drains: it serves, and
// nothing is cut, until nothing is under way or Grace is over. Then it gets SIGTERM, and
// SIGKILL if that does not help; then the result is nil. If Envoy ends by itself the error holds what it said last.
func (p *Proxy) Run(ctx context.Context) (err error) {
	defer close(p.ended)
	dir, err := os.MkdirTemp(p.options.Dir, "heddle-envoy-") // mode 0700
	if err != nil {
		return fmt.Errorf("make a directory for the Envoy of %s: %w", p.id(), err)
	}
	if p.options.Bootstrap.Admin == "" {
		p.options.Bootstrap.Admin = filepath.Join(dir, "admin.sock")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.options.Bootstrap.Admin), os.RemoveAll(dir)) }()
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	cmd, err := p.command(running, dir)
	if err != nil {
		return err
	}
	// A pipe for each: lines about calls come on one, in writes so large that they would cut lines of the log in two.
	out, closeOut, err := pipe(&cmd.Stdout)
	if err != nil {
		return err
	}
	defer out.Close()
	log, closeLog, err := pipe(&cmd.Stderr)
	if err != nil {
		closeOut()
		return err
	}
	defer log.Close()

	// The kernel sends Pdeathsig when the thread that started the process ends, not the process; see prctl(2).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	closeOut() // Envoy has copies of its own; a pipe ends with the last one
	closeLog()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.options.Binary, err)
	}
	p.process = cmd.Process
	close(p.started)
	defer context.AfterFunc(ctx, func() {
		defer end()
		p.drain(running)
	})()

	calls := newCallLog(p.options.Log)
	printed, logged := make(chan []string), make(chan []string)
	go func() { printed <- copyLog(p.options.Log, calls, out) }()
	go func() { logged <- copyLog(p.options.Log, calls, log) }()
	err = cmd.Wait()
	last := lastWords(<-printed, <-logged)
	if ctx.Err() != nil {
		return nil // it was asked to end
	}
	return fmt.Errorf("the Envoy of %s ended by itself (%s); its last words:\n%s", p.id(), exitOf(err), last)
}

// pipe gives what is written to a process's output, and what closes our copy of the other end.
func pipe(output *io.Writer) (read io.ReadCloser, closeWrite func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pipe for what Envoy says: %w", err)
	}
	*output = w
	return r, func() { w.Close() }, nil
}

func (p *Proxy) id() string { return p.options.Bootstrap.ID }

func exitOf(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// command writes the bootstrap into dir and gives the command that runs on it.
func (p *Proxy) command(ctx context.Context, dir string) (*exec.Cmd, error) {
	o := p.options
	p.admin = newAdmin(o.Bootstrap.Admin)
	b, err := bootstrap.New(o.Bootstrap)
	if err != nil {
		return nil, err
	}
	text, err := bootstrap.YAML(b)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, fmt.Errorf("write the bootstrap of %s: %w", o.Bootstrap.ID, err)
	}
	cmd := exec.CommandContext(ctx, o.Binary,
		"--config-path", config,
		"--concurrency", strconv.Itoa(o.Concurrency),
		"--drain-time-s", strconv.Itoa(int(o.DrainTime.Seconds())),
		"--log-level", o.LogLevel,
		"--log-format", logFormat, "--log-format-escaped",
		// How late a line about a call may be; 10 s by default.
		"--file-flush-interval-msec", "1000",
		// Hot restart leaves a file in shared memory behind and serves a restart that never happens here.
		"--disable-hot-restart",
	)
	cmd.Env = []string{o.Caller.Environment()}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // no Envoy outlives us, however we end
		Setpgid:   true,            // Ctrl-C reaches us; we decide when Envoy ends
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = o.StopTimeout
	return cmd, nil
}

// Validate lets the Envoy at binary check a bootstrap without running it.
func Validate(ctx context.Context, binary string, bootstrapYAML []byte) error {
	dir, err := os.MkdirTemp("", "heddle-validate-")
	if err != nil {
		return fmt.Errorf("make a directory for the configuration: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(path, bootstrapYAML, 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	out, err := exec.CommandContext(ctx, binary, "--mode", "validate", "--log-level", "warning",
		"--disable-hot-restart", "--config-path", path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the configuration is refused by Envoy: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Signal sends a signal to Envoy, once it runs.
func (p *Proxy) Signal(ctx context.Context, s os.Signal) error {
	if err := p.waitStarted(ctx); err != nil {
		return err
	}
	return p.process.Signal(s)
}

func (p *Proxy) waitStarted(ctx context.Context) error {
	select {
	case <-p.started:
		select {
		case <-p.ended:
			return p.gone()
		default:
			return nil
		}
	case <-p.ended:
		return p.gone()
	case <-ctx.Done():
		return fmt.Errorf("wait for the Envoy of %s to start: %w", p.id(), ctx.Err())
	}
}

func (p *Proxy) gone() error {
	return fmt.Errorf("the Envoy of %s has ended; what its Run returned says why", p.id())
}

// Ready waits until Envoy has its first configuration and serves.
func (p *Proxy) Ready(ctx context.Context) error {
	if err := p.waitStarted(ctx); err != nil {
		return err
	}
	// Envoy tells nobody when it is ready; it can only be asked.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := p.admin.do(ctx, "GET", "/ready")
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return p.gone()
		case <-ctx.Done():
			return fmt.Errorf("wait for the Envoy of %s to be ready: %w (last answer: %w)", p.id(), ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// Get asks the admin interface, for example for /config_dump.
func (p *Proxy) Get(ctx context.Context, path string) ([]byte, error) {
	return p.ask(ctx, "GET", path)
}

// Post tells the admin interface something, for example /drain_listeners?graceful.
func (p *Proxy) Post(ctx context.Context, path string) ([]byte, error) {
	return p.ask(ctx, "POST", path)
}

func (p *Proxy) ask(ctx context.Context, method, path string) ([]byte, error) {
	if err := p.waitStarted(ctx); err != nil {
		return nil, err
	}
	return p.admin.do(ctx, method, path)
}
