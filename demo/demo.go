package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/examples"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/observe"
	"github.com/heddle-mesh/heddle/policy"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
)

// Options have useful zero values.
type Options struct {
	Folder string        // of manifests; default examples/demo if it is here, else a copy of the one in the binary
	Envoy  string        // path of an Envoy; default: the one that is found, see sidecar/envoy
	For    time.Duration // of load; 0: until ctx ends
	Rate   int           // pages a second; default 50
	Out    io.Writer     // default: nothing is shown
	Format Format        // default: a screen on a terminal, lines elsewhere
	Notes  io.Writer     // what is done before anything is shown; default: nothing
	Log    zerolog.Logger
}

// Format is how the demo shows what happens.
type Format string

const (
	Text Format = ""     // a screen on a terminal, lines elsewhere
	JSON Format = "json" // one Report at the end and nothing else
)

// ErrDisagree says that what was measured is not what the policies ask for.
var ErrDisagree = errors.New("what was measured disagrees with the policies")

const (
	drain      = time.Second            // what is not needed any more stays so long
	flushEvery = 500 * time.Millisecond // sidecars push what they count
	frameEvery = 500 * time.Millisecond
	liveFor    = 5 * time.Second // what the screen shows as present
	// settle is how long after an edit its effects are measured: sidecars have it, and what was counted before is in.
	settle = flushEvery + 300*time.Millisecond
	// startTime bounds the start; Envoys take a second together on a small machine.
	startTime = time.Minute
)

// Run runs the demo until ctx ends or the time is up, and leaves nothing behind.
func Run(ctx context.Context, o Options) (err error) {
	if o.Rate == 0 {
		o.Rate = defaultRate
	}
	if o.Notes == nil {
		o.Notes = io.Discard
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	own, err := makeFolder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.remove()) }()
	defer own.removeWhenKilled(ctx)()
	binary, err := envoy.Find(ctx, envoy.FindOptions{Path: o.Envoy, Progress: o.Notes})
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return err
	}
	if o.Folder, err = chooseFolder(o.Folder, own.path); err != nil {
		return err
	}
	s := newStage(o, own.path, binary)
	return s.run(ctx)
}

// chooseFolder gives the folder of manifests: the one named, the one of the repository if we are in it, or a copy of
// the one in the binary.
func chooseFolder(named, dir string) (string, error) {
	if named != "" {
		return named, nil
	}
	own := filepath.Join("examples", "demo")
	if st, err := os.Stat(own); err == nil && st.IsDir() {
		return own, nil
	}
	source, err := fs.Sub(examples.Demo, "demo")
	if err != nil {
		return "", fmt.Errorf("find the demo's manifests in the binary: %w", err)
	}
	folder := filepath.Join(dir, "manifests")
	if err := os.CopyFS(folder, source); err != nil {
		return "", fmt.Errorf("write the demo's manifests: %w", err)
	}
	return folder, nil
}

// stage is a running demo.
type stage struct {
	options Options
	dir     string
	binary  string
	watcher *watcher
	plane   *controlplane.Plane
	ledger  *ledger
	mood    *mood
	pods    []pod

	mu      sync.Mutex
	pushing map[string]bool // nodes whose statistics arrive
	arrived chan struct{}   // gets a value when one more does
}

func newStage(o Options, dir, binary string) *stage {
	s := &stage{
		options: o, dir: dir, binary: binary, ledger: newLedger(), mood: &mood{},
		pushing: map[string]bool{}, arrived: make(chan struct{}, 1),
	}
	s.watcher = newWatcher(kube.NewFolder(kube.FolderOptions{Dir: o.Folder, Log: o.Log, Problems: s.problems}))
	s.plane = controlplane.New(controlplane.Options{
		Source: s.watcher, Observer: s.watcher, Socket: s.socket(), Unredirected: true, Drain: drain, Log: o.Log,
		Signals: observe.Options{
			Slot: flushEvery, Keep: 10 * time.Minute, Identify: s.identify, Log: o.Log,
		},
	})
	return s
}

// problems tells what is wrong with a file.
func (s *stage) problems(all []policy.Problem) {
	for _, p := range all {
		if p.Severity == policy.Error {
			s.watcher.note(news{time.Now(), newsWrong, p.String()})
		}
	}
}

// identify notes whose statistics arrive. Only this user can open the socket, so nodes are who they say they are.
func (s *stage) identify(_ context.Context, n *corev3.Node) (string, error) {
	s.mu.Lock()
	s.pushing[n.GetId()] = true
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	return n.GetId(), nil
}

// run plays the demo. Everything that it starts has ended when it returns. The end of ctx ends the load first, and the
// sidecars only when that is over.
func (s *stage) run(ctx context.Context) error {
	all, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, running := errgroup.WithContext(all)
	playing, end := context.WithCancel(running)
	defer context.AfterFunc(ctx, end)()
	defer end()
	group.Go(func() error { return s.plane.Run(running) })
	group.Go(func() error {
		defer stop()
		return s.play(playing, running, group)
	})
	return group.Wait()
}

func (s *stage) socket() string { return filepath.Join(s.dir, "xds.sock") }

// play starts the pods, sends the load and shows what happens. What it starts runs until running ends.
func (s *stage) play(ctx, running context.Context, group *errgroup.Group) error {
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	shoppers, err := s.open(starting, running, group)
	switch {
	case err != nil && running.Err() != nil:
		return nil // something else failed and says so
	case err != nil && ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return err
	}
	fmt.Fprintf(s.options.Notes, "all are ready; load begins\n")
	return newPerformance(s, shoppers).run(ctx)
}

// errInterrupted is the end of a demo that was told to end before it had shown anything, or all.
var errInterrupted = errors.New("interrupted")

// open starts an application and an Envoy for every pod, and waits until all of them serve and are measured.
func (s *stage) open(starting, running context.Context, group *errgroup.Group) (shoppers *application, err error) {
	select {
	case <-s.watcher.synced:
	case <-starting.Done():
		return nil, fmt.Errorf("read the manifests in %s: %w", s.options.Folder, starting.Err())
	}
	if s.pods, err = placePods(s.watcher.allPods()); err != nil {
		return nil, err
	}
	fmt.Fprintf(s.options.Notes, "starting %d applications and %d sidecars\n", len(s.pods), len(s.pods))
	var proxies []*envoy.Proxy
	for _, p := range s.pods {
		a := newApplication(p, s.watcher, s.ledger, s.mood)
		if err := s.startApplication(running, group, a); err != nil {
			return nil, err
		}
		if p.app == "shoppers" {
			shoppers = a
		}
		proxy := envoy.New(s.sidecar(p))
		group.Go(func() error { return proxy.Run(running) })
		proxies = append(proxies, proxy)
	}
	if shoppers == nil {
		return nil, fmt.Errorf("the folder %s has no pod with the labels app: shoppers and heddle.dev/sidecar: \"true\", where the load comes from", s.options.Folder)
	}
	for _, p := range proxies {
		if err := p.Ready(starting); err != nil {
			return nil, err
		}
	}
	return shoppers, s.measuring(starting)
}

func (s *stage) startApplication(ctx context.Context, group *errgroup.Group, a *application) error {
	h, err := a.handler()
	if err != nil || h == nil {
		return err
	}
	l, err := a.listen(ctx)
	if err != nil {
		return err
	}
	group.Go(func() error { return a.run(ctx, l, h) })
	return nil
}

func (s *stage) sidecar(p pod) envoy.Options {
	labels := map[string]string{}
	for _, l := range p.Labels {
		labels[l.Key] = l.Value
	}
	return envoy.Options{
		Binary: s.binary,
		Bootstrap: bootstrap.Options{
			ID: p.Key.String(), ADS: s.socket(), Capture: p.capture, FlushInterval: flushEvery, HealthChecks: true,
		},
		Caller:      bootstrap.Caller{Namespace: p.Key.Namespace, Account: p.ServiceAccount, Labels: labels},
		Concurrency: 1,
		StopTimeout: 3 * time.Second,
		Log:         s.options.Log.With().Stringer("pod", p.Key).Logger(),
		Dir:         s.dir,
	}
}

// measuring waits until the statistics of every sidecar arrive: what is counted before is lost.
func (s *stage) measuring(ctx context.Context) error {
	for {
		s.mu.Lock()
		n := len(s.pushing)
		s.mu.Unlock()
		if n >= len(s.pods) {
			return nil
		}
		select {
		case <-s.arrived:
		case <-ctx.Done():
			return fmt.Errorf("wait for the statistics of %d sidecars, of which %d arrive: %w", len(s.pods), n, ctx.Err())
		}
	}
}
