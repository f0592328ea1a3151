package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// HostPackages are the Debian packages that a cluster, and the tests of redirection, need on the machine.
func HostPackages() []string {
	return []string{"runc", "containernetworking-plugins", "nftables", "iptables", "iproute2"}
}

// InstallCommand installs them.
func InstallCommand() string {
	return "apt-get install -y --no-install-recommends " + strings.Join(HostPackages(), " ")
}

// CheckHost says whether this machine can run a cluster, and if not, everything that is amiss and what to do.
func CheckHost() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("a cluster of our own needs Linux, this is %s; KUBECONFIG=... uses one that is there", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("a cluster of our own needs root, for namespaces, mounts and cgroups; " +
			"run this as root, or KUBECONFIG=... uses a cluster that is there")
	}
	var missing []string
	for _, need := range [][2]string{{"runc", "runc"}, {"nft", "nftables"}, {"iptables-restore", "iptables"}, {"ip", "iproute2"}, {"nsenter", "util-linux"}, {"unshare", "util-linux"}, {"mount", "mount"}} {
		if _, err := exec.LookPath(need[0]); err != nil {
			missing = append(missing, fmt.Sprintf("%s (Debian's %s)", need[0], need[1]))
		}
	}
	if _, err := cniFolder(); err != nil {
		missing = append(missing, err.Error())
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing on this machine: %s; install with: %s", strings.Join(missing, ", "), InstallCommand())
	}
	return nil
}

// cniFolder is where the network plugins of containers are: in one place on Debian, in another elsewhere.
func cniFolder() (string, error) {
	folders := []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}
	i := slices.IndexFunc(folders, func(dir string) bool {
		_, ptp := os.Stat(filepath.Join(dir, "ptp"))
		_, local := os.Stat(filepath.Join(dir, "host-local"))
		return ptp == nil && local == nil
	})
	if i < 0 {
		return "", fmt.Errorf("the CNI plugins ptp and host-local in any of %s (Debian's containernetworking-plugins)",
			strings.Join(folders, ", "))
	}
	return folders[i], nil
}
