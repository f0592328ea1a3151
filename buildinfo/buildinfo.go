// Package buildinfo says which build of Heddle a program is: the control plane, the agent beside an Envoy, the command line.
package buildinfo

import "runtime/debug"

// version is set by the linker, for releases and images alone:
//
//	go build -ldflags "-X github.com/heddle-mesh/heddle/buildinfo.version=v1.2.3"
var version string

// Info is a build.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go,omitempty"`
}

// Get is this program's: the version that it was linked with, or else the one that the toolchain stamped.
func Get() Info {
	i := Info{Version: version}
	info, ok := debug.ReadBuildInfo()
	if ok {
		i.Go = info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				i.Commit = s.Value
			}
		}
	}
	if i.Version == "" && ok {
		i.Version = info.Main.Version
	}
	if i.Version == "" {
		i.Version = "(devel)"
	}
	return i
}
