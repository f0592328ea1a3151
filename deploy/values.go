package deploy

import (
	"errors"
	"fmt"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"
)

// Given are values in the forms that people have. What comes later counts: high availability, Files in their order, Set,
// SetString, and then the fields below.
type Given struct {
	Installed        []byte // what an installation before had, the YAML of ValuesItem; may be nil
	HighAvailability bool   // the chart's values-ha.yaml
	Files            []File
	Set, SetString   []string // key=value,other.key=value, as with helm --set and --set-string

	Registry, Version string // of images; empty: not given
	Image, ProxyImage string // whole names; empty: not given
}

// File is YAML with values.
type File struct {
	Name string
	Text []byte
}

// Values joins what is given into what Render takes.
func Values(g Given) (map[string]any, error) {
	layers := []File{{"the installed values", g.Installed}}
	if g.HighAvailability {
		text, err := read("values-ha.yaml")
		if err != nil {
			return nil, fmt.Errorf("read the chart: %w", err)
		}
		layers = append(layers, File{"values-ha.yaml", text})
	}
	values := map[string]any{}
	for _, f := range append(layers, g.Files...) {
		layer, err := loader.LoadValues(strings.NewReader(string(f.Text)))
		if err != nil {
			return nil, fmt.Errorf("read values from %s: %w", f.Name, err)
		}
		values = loader.MergeMaps(values, layer)
	}
	for _, set := range g.Set {
		if err := strvals.ParseInto(set, values); err != nil {
			return nil, fmt.Errorf("--set %s: %w; want KEY=VALUE, with dots between the parts of KEY", set, err)
		}
	}
	for _, set := range g.SetString {
		if err := strvals.ParseIntoString(set, values); err != nil {
			return nil, fmt.Errorf("--set-string %s: %w; want KEY=VALUE, with dots between the parts of KEY", set, err)
		}
	}
	if err := g.images(values); err != nil {
		return nil, err
	}
	return values, nil
}

// images puts what has fields of its own into values.
func (g Given) images(values map[string]any) error {
	given := map[string]string{"registry": g.Registry, "version": g.Version, "controlPlane": g.Image, "proxy": g.ProxyImage}
	for key, value := range given {
		if value == "" {
			continue
		}
		image, ok := values["image"].(map[string]any)
		if !ok && values["image"] != nil {
			return errors.New("the value image is no map; docs/install.md lists what it has")
		}
		if image == nil {
			image = map[string]any{}
			values["image"] = image
		}
		image[key] = value
	}
	return nil
}
