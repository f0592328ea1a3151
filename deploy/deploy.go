// Package deploy is how Heddle gets into a cluster: the Helm chart in the folder heddle, built into the program, and what
// is made of it.
//
//	values, err := deploy.Values(deploy.Given{HighAvailability: true, Set: []string{"trustDomain=example.org"}})
//	text, err := deploy.Render(deploy.Release{Namespace: "heddle-system", Values: values})
//
// The chart is the one source of all objects. Render goes the way of `helm template`, by Helm's own library, so the two print
// the same. [Removal] turns such a text into what to delete, in an order in which nothing waits for what is gone. All of it
// is values in, values out.
//
// The folder microk8s has an add-on that applies the same text; a test keeps it so.
package deploy

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/release/v1/util"
	"k8s.io/apimachinery/pkg/util/validation"
)

// What is where in the cluster.
const (
	DefaultNamespace = "heddle-system"
	ConfigMap        = "heddle-config" // in the control plane's namespace
	ValuesItem       = "values.yaml"   // of the ConfigMap: what differs from the chart's own values
	VersionItem      = "version"       // of the ConfigMap: which version was installed
)

const chartFolder = "heddle"

//go:embed all:heddle
var files embed.FS

// Release is one rendering of the chart. Zero values are the chart's own.
type Release struct {
	Namespace string         // of the control plane; default DefaultNamespace
	Values    map[string]any // what differs from the chart's; see Values

	// Version is that of the program that installs, v1.2.3: what is installed is labelled with it, and it is the tag of images
	// unless a value says otherwise. Programs that do not know theirs, "(devel)", have the chart's.
	Version string
}

// Render gives all objects as YAML documents, in the order in which they are to be applied: the Namespace first, the webhooks
// last. It fails, with every reason, if a value is not what the chart's schema allows; and if the control plane cannot be in
// that namespace, or its pods would be killed before they have ended in order.
func Render(r Release) (string, error) {
	if r.Namespace == "" {
		r.Namespace = DefaultNamespace
	}
	if err := checkNamespace(r.Namespace); err != nil {
		return "", err
	}
	return render(r)
}

// render is Render wherever the control plane is.
func render(r Release) (string, error) {
	c, err := r.chart()
	if err != nil {
		return "", err
	}
	release := common.ReleaseOptions{Name: "heddle", Namespace: r.Namespace, Revision: 1, IsInstall: true}
	values, err := commonutil.ToRenderValues(c, r.Values, release, nil)
	if err != nil {
		return "", fmt.Errorf("check the values: %w", schemaError(err))
	}
	joined, err := commonutil.CoalesceValues(c, r.Values)
	if err != nil {
		return "", fmt.Errorf("join the values with the chart's: %w", err)
	}
	if err := checkShutdown(joined); err != nil {
		return "", err
	}
	rendered, err := engine.Render(c, values)
	if err != nil {
		return "", fmt.Errorf("render the chart: %w", err)
	}
	for name := range rendered {
		if strings.HasSuffix(name, ".txt") { // words for who installs
			delete(rendered, name)
		}
	}
	_, manifests, err := util.SortManifests(rendered, nil, util.InstallOrder)
	if err != nil {
		return "", fmt.Errorf("put the objects in order: %w", err)
	}
	return join(manifests), nil
}

// TrustDomain is the one of all identities in the mesh.
func (r Release) TrustDomain() (string, error) {
	c, err := load()
	if err != nil {
		return "", err
	}
	values, err := commonutil.CoalesceValues(c, r.Values)
	if err != nil {
		return "", fmt.Errorf("join the values with the chart's: %w", err)
	}
	name, ok := values["trustDomain"].(string)
	if !ok {
		return "", fmt.Errorf("the value trustDomain is %v, and no name", values["trustDomain"])
	}
	return name, nil
}

// Installs is the version that Render labels everything with.
func (r Release) Installs() (string, error) {
	c, err := r.chart()
	if err != nil {
		return "", err
	}
	return c.AppVersion(), nil
}

// unknown is what programs say of themselves that were built without a version (package buildinfo).
const unknown = "(devel)"

// chart gives the chart in the version of the release.
func (r Release) chart() (*chart.Chart, error) {
	c, err := load()
	if err != nil || r.Version == "" || r.Version == unknown {
		return c, err
	}
	// The toolchain's v0.0.0-20260102030405-abcdef012345+dirty: neither tags nor labels have a plus, and Helm writes it so as well.
	version := strings.ReplaceAll(r.Version, "+", "_")
	if problems := validation.IsValidLabelValue(version); len(problems) > 0 {
		return nil, fmt.Errorf("install version %q: it can be neither a label nor the tag of an image: %s; build the program with another one", r.Version, problems[0])
	}
	c.Metadata.Version, c.Metadata.AppVersion = version, version
	return c, nil
}

// load gives the chart that is built into the program.
func load() (*chart.Chart, error) {
	var all []*archive.BufferedFile
	err := fs.WalkDir(files, chartFolder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		all = append(all, &archive.BufferedFile{Name: strings.TrimPrefix(name, chartFolder+"/"), Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	c, err := loader.LoadFiles(all)
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	return c, nil
}

// read gives a file of the chart.
func read(name string) ([]byte, error) { return files.ReadFile(path.Join(chartFolder, name)) }

// join writes manifests as `helm template` does.
func join(manifests []util.Manifest) string {
	var b strings.Builder
	for _, m := range manifests {
		fmt.Fprintf(&b, "---\n# Source: %s\n%s\n", m.Name, m.Content)
	}
	return strings.TrimSpace(b.String()) + "\n"
}
