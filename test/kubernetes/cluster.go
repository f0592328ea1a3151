package kubetest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Issuer is the issuer of ServiceAccount tokens, and their default audience.
const Issuer = "https://kubernetes.default.svc"

// Service addresses, of both families.
const serviceRange = "10.96.0.0/16,fd00:10:96::/112"

// startTimeout is ample: an API server takes 3 s, on a busy machine 20.
const startTimeout = 2 * time.Minute

// cluster is a running etcd and kube-apiserver with a directory of their own.
type cluster struct {
	binaries  Binaries
	dir       string
	lock      *os.File     // held while dir is in use
	port      net.Listener // that keeps the API server's port for it
	config    *rest.Config // of a member of system:masters
	clients   *clientCA
	etcd, api *process
}

// startCluster gives a cluster that is ready.
func startCluster(ctx context.Context, b Binaries) (*cluster, error) {
	removeStale()
	c := &cluster{binaries: b}
	err := c.prepare()
	if err == nil {
		c.etcd, err = start(c.dir, b.Etcd,
			"--data-dir="+filepath.Join(c.dir, "data"),
			"--listen-client-urls=unix://"+c.etcdSocket(),
			"--advertise-client-urls=http://localhost:0", // of no use to anybody, but it must be host:port
			"--listen-peer-urls=unix://"+filepath.Join(c.dir, "peer.sock"),
			"--unsafe-no-fsync", "--log-level=warn")
	}
	if err == nil {
		err = c.startAPI(ctx)
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// stop ends everything and removes every file.
func (c *cluster) stop() {
	c.api.kill()
	c.etcd.kill()
	if c.port != nil {
		c.port.Close()
	}
	if c.dir != "" {
		os.RemoveAll(c.dir)
		c.lock.Close()
	}
}

const dirPrefix = "heddle-kubetest-"

// prepare makes the directory with what an API server needs in it.
func (c *cluster) prepare() (err error) {
	if c.dir, err = os.MkdirTemp("", dirPrefix); err != nil {
		return fmt.Errorf("make a directory for the API server: %w", err)
	}
	if c.lock, err = lockDir(c.dir); err != nil {
		return fmt.Errorf("lock the directory of the API server: %w", err)
	}
	if c.port, err = reservePort(); err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make a key for ServiceAccount tokens: %w", err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(c.path("sa.key"), pem.EncodeToMemory(block), 0o600); err != nil {
		return fmt.Errorf("write the key for ServiceAccount tokens: %w", err)
	}
	if c.clients, err = newClientCA(c.path("clients.crt")); err != nil {
		return err
	}
	token := rand.Text()
	if err := os.WriteFile(c.path("tokens.csv"), []byte(token+",admin,admin,system:masters\n"), 0o600); err != nil {
		return fmt.Errorf("write the administrator's token: %w", err)
	}
	c.config = &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", c.portNumber()),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.path("certs/apiserver.crt")},
		QPS:             1000,
		Burst:           1000,
	}
	return writeKubeconfig(c.path("kubeconfig"), c.config)
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) etcdSocket() string { return c.path("etcd.sock") }

// startAPI starts the API server, for the first time or again, and waits until it is ready.
func (c *cluster) startAPI(ctx context.Context) error {
	api, err := start(c.dir, c.binaries.APIServer,
		"--etcd-servers=unix://"+c.etcdSocket(),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.portNumber()), "--cert-dir="+c.path("certs"),
		"--service-cluster-ip-range="+serviceRange,
		"--authorization-mode=RBAC", "--token-auth-file="+c.path("tokens.csv"), "--client-ca-file="+c.path("clients.crt"),
		"--service-account-issuer="+Issuer,
		"--service-account-signing-key-file="+c.path("sa.key"), "--service-account-key-file="+c.path("sa.key"),
		// It is alone and speaks to nobody: nothing to advertise, to shield from load, or to profile.
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		"--enable-priority-and-fairness=false", "--profiling=false", "--v=1")
	if err != nil {
		return err
	}
	c.api = api
	return c.ready(ctx)
}

// ready waits until the API server says that it is.
func (c *cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %v", startTimeout))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if last = c.askReady(ctx); last == nil {
			return nil
		}
		select {
		case <-c.etcd.done:
			return fmt.Errorf("etcd ended while the API server started; its log ends:\n%s", c.etcd.tail())
		case <-c.api.done:
			return fmt.Errorf("the API server ended at its start; its log ends:\n%s", c.api.tail())
		case <-ctx.Done():
			return fmt.Errorf("start the API server: %w: %w; its log ends:\n%s", context.Cause(ctx), last, c.api.tail())
		case <-tick.C:
		}
	}
}

func (c *cluster) askReady(ctx context.Context) error {
	// A new client each time: the certificate that it trusts is written by the API server at its start.
	client, err := discovery.NewDiscoveryClientForConfig(c.config)
	if err != nil {
		return err
	}
	return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// reservePort finds a port for the API server, which must still be free when it comes back to it after a test has
// stopped it: below those that the kernel gives to clients (32768 up), and kept from other test binaries by a listener
// on another loopback address.
func reservePort() (net.Listener, error) {
	var last error
	for range 100 {
		port := 20000 + mathrand.IntN(10000)
		reserved, err := net.Listen("tcp4", fmt.Sprintf("127.255.255.254:%d", port))
		if err == nil {
			var probe net.Listener
			if probe, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				return reserved, probe.Close()
			}
			reserved.Close()
		}
		last = err
	}
	return nil, fmt.Errorf("find a free port for the API server: %w", last)
}

func (c *cluster) portNumber() int { return c.port.Addr().(*net.TCPAddr).Port }

// lockDir marks a directory as in use while we live.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeStale removes the directories of test binaries that were killed.
func removeStale() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return // the pattern is not ours to doubt: TempDir holds a character that Glob cannot match
	}
	for _, dir := range dirs {
		// One without a lock file is being made at this moment.
		if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
			continue
		}
		if f, err := lockDir(dir); err == nil {
			os.RemoveAll(dir)
			f.Close()
		}
	}
}

// writeKubeconfig writes a kubeconfig with one context, named test.
func writeKubeconfig(path string, config *rest.Config) error {
	kubeconfig := api.Config{
		Clusters:       map[string]*api.Cluster{"test": {Server: config.Host, CertificateAuthority: config.CAFile}},
		AuthInfos:      map[string]*api.AuthInfo{"test": {Token: config.BearerToken}},
		Contexts:       map[string]*api.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}
	if err := clientcmd.WriteToFile(kubeconfig, path); err != nil {
		return fmt.Errorf("write a kubeconfig: %w", err)
	}
	return nil
}
