package cluster

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

//go:embed config
var config embed.FS

// startLimit is ample: each step takes a few seconds, on a busy machine ten times as long.
const startLimit = 4 * time.Minute

// start makes what a cluster owns, and starts its processes in order.
func (c *Cluster) start(ctx context.Context, images []string) error {
	began := time.Now()
	var err error
	if c.network, err = newNetwork(c.network.name); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		c.cgroupsAndFolders, c.network.create, c.isolate, c.credentials, c.controlPlane, c.node,
		func(ctx context.Context) error { return c.loadAll(ctx, images) },
		c.dns, c.ready,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	c.say("cluster %s is ready after %.1fs: export KUBECONFIG=%s", c.Name, time.Since(began).Seconds(), c.Kubeconfig())
	return nil
}

func (c *Cluster) cgroupsAndFolders(context.Context) error {
	for _, dir := range []string{"log", "tmp", "cni", "config", "kubelet/volume-plugins", "pod-logs"} {
		if err := os.MkdirAll(c.path(dir), 0o755); err != nil {
			return fmt.Errorf("make the folders of cluster %s: %w", c.Name, err)
		}
	}
	return c.cgroups.create()
}

// credentials writes certificates, keys and kubeconfigs for all, and the configuration of each.
func (c *Cluster) credentials(context.Context) error {
	p, err := newPKI(c.path("pki"))
	if err != nil {
		return err
	}
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"}
	var addresses []net.IP
	for _, a := range []string{nodeAddress, nodeAddress6, c.network.inside(), apiAddress, "fd00:10:96::1", "127.0.0.1"} {
		addresses = append(addresses, net.ParseIP(a))
	}
	if err := p.server(names, addresses); err != nil {
		return err
	}
	// One address for all: the outer end of the pair has it too, so a kubeconfig is good on both sides.
	for _, s := range subjects(Node) {
		if err := p.client(s, "https://"+net.JoinHostPort(c.network.inside(), apiPort)); err != nil {
			return err
		}
	}
	if _, _, err := p.issue("accounts", &x509.Certificate{Subject: pkix.Name{CommonName: "ServiceAccounts"}}); err != nil {
		return err
	}
	if err := os.WriteFile(c.path("resolv.conf"), []byte("nameserver "+dnsAddress+"\n"), 0o644); err != nil {
		return fmt.Errorf("write resolv.conf: %w", err)
	}
	return c.configure()
}

// configure fills in the files of config/.
func (c *Cluster) configure() error {
	plugins, err := cniFolder()
	if err != nil {
		return err
	}
	values := map[string]string{
		"Dir": c.dir, "Run": c.run, "Pause": PauseImage, "CNI": plugins, "Node": Node, "Cgroup": c.cgroups.name,
	}
	templates, err := template.New("").Option("missingkey=error").ParseFS(config, "config/*")
	if err != nil {
		return fmt.Errorf("read the configuration of a cluster: %w", err)
	}
	for _, t := range templates.Templates() {
		dir := "config"
		if strings.HasSuffix(t.Name(), ".conflist") {
			dir = "cni"
		}
		var out bytes.Buffer
		if err := t.Execute(&out, values); err != nil {
			return fmt.Errorf("fill in %s: %w", t.Name(), err)
		}
		if err := os.WriteFile(c.path(dir, t.Name()), out.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", t.Name(), err)
		}
	}
	return nil
}

func (c *Cluster) etcdSocket() string { return "unix://" + filepath.Join(c.run, "etcd.sock") }

// controlPlane starts etcd, the API server and its two companions.
func (c *Cluster) controlPlane(ctx context.Context) error {
	pki := func(name string) string { return c.path("pki", name) }
	if _, err := c.spawn("etcd",
		"--data-dir="+c.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+c.etcdSocket(),
		"--advertise-client-urls=http://localhost:0", // of no use to anybody, but it must be host:port
		"--listen-peer-urls=unix://"+filepath.Join(c.run, "peer.sock")); err != nil {
		return err
	}
	if _, err := c.spawn("kube-apiserver",
		"--etcd-servers="+c.etcdSocket(),
		"--secure-port="+apiPort, "--advertise-address="+nodeAddress, "--service-cluster-ip-range="+serviceRange4+","+serviceRange6,
		"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"),
		"--client-ca-file="+pki("ca.crt"),
		"--kubelet-client-certificate="+pki("apiserver-kubelet.crt"), "--kubelet-client-key="+pki("apiserver-kubelet.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+pki("accounts.key"), "--service-account-signing-key-file="+pki("accounts.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true", "--profiling=false"); err != nil {
		return err
	}
	if err := c.until(ctx, "the API server is ready", startLimit, c.askReady); err != nil {
		return err
	}
	if _, err := c.spawn("kube-controller-manager",
		"--kubeconfig="+pki("kube-controller-manager.kubeconfig"), "--leader-elect=false",
		"--use-service-account-credentials=true", "--root-ca-file="+pki("ca.crt"),
		"--service-account-private-key-file="+pki("accounts.key"),
		"--cluster-signing-cert-file="+pki("ca.crt"), "--cluster-signing-key-file="+pki("ca.key"),
		"--flex-volume-plugin-dir="+c.path("kubelet", "volume-plugins")); err != nil {
		return err
	}
	_, err := c.spawn("kube-scheduler", "--kubeconfig="+pki("kube-scheduler.kubeconfig"), "--leader-elect=false")
	return err
}

// node starts what runs pods.
func (c *Cluster) node(ctx context.Context) error {
	if _, err := c.spawn("containerd", "--config="+c.path("config", "containerd.toml")); err != nil {
		return err
	}
	if err := c.until(ctx, "containerd answers", startLimit, func(ctx context.Context) error {
		return run(ctx, c.ctr("version")...)
	}); err != nil {
		return err
	}
	if _, err := c.spawn("kube-proxy", "--config="+c.path("config", "kube-proxy.yaml")); err != nil {
		return err
	}
	_, err := c.spawn("kubelet", "--config="+c.path("config", "kubelet.yaml"),
		"--kubeconfig="+c.path("pki", "kubelet.kubeconfig"), "--hostname-override="+Node,
		"--node-ip="+nodeAddress+","+nodeAddress6, "--root-dir="+c.path("kubelet"), "--cert-dir="+c.path("kubelet", "pki"))
	return err
}

func (c *Cluster) loadAll(ctx context.Context, images []string) error {
	if len(images) > 0 {
		c.say("loading %d images", len(images))
	}
	return c.Load(ctx, images...)
}

// dns starts CoreDNS on the node, behind the usual Service.
func (c *Cluster) dns(ctx context.Context) error {
	if err := c.until(ctx, "DNS is set up", startLimit, func(ctx context.Context) error {
		out, err := c.Kubectl(ctx, "apply", "-f", c.path("config", "dns.yaml")).CombinedOutput()
		if err != nil {
			return fmt.Errorf("kubectl apply: %w: %s", err, out)
		}
		return nil
	}); err != nil {
		return err
	}
	_, err := c.spawn("coredns", "-conf", c.path("config", "Corefile"))
	return err
}

// ready waits until pods can run: the node is ready, ServiceAccounts are made, and DNS answers through its Service.
func (c *Cluster) ready(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := c.until(ctx, "the node is ready", startLimit, func(ctx context.Context) error {
		return nodeReady(ctx, client)
	}); err != nil {
		return err
	}
	if err := c.until(ctx, "ServiceAccounts are made", startLimit, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	}); err != nil {
		return err
	}
	return c.until(ctx, "DNS answers", startLimit, func(ctx context.Context) error {
		return run(ctx, c.enter("bash", "-c", "exec 3<>/dev/tcp/"+dnsAddress+"/53")...)
	})
}

func nodeReady(ctx context.Context, client kubernetes.Interface) error {
	node, err := client.CoreV1().Nodes().Get(ctx, Node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return errors.New(condition.Message)
		}
	}
	return errors.New("it has not said")
}

// client gives an administrator's client.
func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of cluster %s: %w", c.Name, err)
	}
	return kubernetes.NewForConfig(config)
}

func (c *Cluster) askReady(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// diagnosis is how the logs of all processes end.
func (c *Cluster) diagnosis() string {
	var b strings.Builder
	for _, d := range c.daemons {
		fmt.Fprintf(&b, "\n--- %s\n%s", d.name, tail(d.log))
	}
	return b.String()
}
