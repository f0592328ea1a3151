package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/heddle-mesh/heddle/test/loopback"
)

// manifests is what the harness itself needs of an example: which pods to run, and at which address a Service is.
type manifests struct {
	text     string
	pods     []corev1.Pod
	services map[string]corev1.Service // by namespace/name
	zones    map[string]topology       // by node
}

type topology struct{ region, zone string }

// podNetwork is where the examples have their pods.
var podNetwork = regexp.MustCompile(`\b10\.1\.(\d+\.\d+)\b`)

// readExample reads examples/NAME.yaml with its pods moved into a loopback network.
func readExample(name string, network netip.Prefix) (*manifests, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(root, "examples", name+".yaml"))
	if err != nil {
		return nil, fmt.Errorf("read example: %w", err)
	}
	b := network.Addr().As4()
	text := podNetwork.ReplaceAllString(string(raw), fmt.Sprintf("%d.%d.${1}", b[0], b[1]))
	// IPv6 has one loopback address, so that it is the port that nobody else has. Where there is no IPv6 the pod has IPv4.
	text = strings.ReplaceAll(text, "26000", strconv.Itoa(26000+int(b[1])))
	if loopback.HasIPv6() {
		text = strings.ReplaceAll(text, "fd00:1::1", "::1")
	} else {
		text = strings.ReplaceAll(text, "fd00:1::1", fmt.Sprintf("%d.%d.254.1", b[0], b[1]))
		text = strings.ReplaceAll(text, "addressType: IPv6", "addressType: IPv4")
	}
	return parse(text)
}

// repository is the folder with go.mod, at or above the working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory: run inside the repository")
		}
		dir = parent
	}
}

func parse(text string) (*manifests, error) {
	m := &manifests{text: text, services: map[string]corev1.Service{}, zones: map[string]topology{}}
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, fmt.Errorf("split example into documents: %w", err)
		}
		if err := m.add(doc); err != nil {
			return nil, err
		}
	}
}

func (m *manifests) add(doc []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	switch kind.Kind {
	case "Pod":
		var p corev1.Pod
		if err := yaml.Unmarshal(doc, &p); err != nil {
			return fmt.Errorf("read pod: %w", err)
		}
		m.pods = append(m.pods, p)
	case "Service":
		var s corev1.Service
		if err := yaml.Unmarshal(doc, &s); err != nil {
			return fmt.Errorf("read service: %w", err)
		}
		m.services[s.Namespace+"/"+s.Name] = s
	case "Node":
		var n corev1.Node
		if err := yaml.Unmarshal(doc, &n); err != nil {
			return fmt.Errorf("read node: %w", err)
		}
		m.zones[n.Name] = topology{n.Labels[corev1.LabelTopologyRegion], n.Labels[corev1.LabelTopologyZone]}
	}
	return nil
}
