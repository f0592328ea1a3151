package translator

import (
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

func TestPathsAreGuardedWhereARuleOnThemDecides(t *testing.T) {
	path := []model.Match{{Path: &model.PathMatch{Prefix: "/search"}}}
	method := []model.Match{{Methods: []string{"POST"}}}
	for name, c := range map[string]struct {
		limits []model.RouteLimit
		want   bool
	}{
		"no rule":                              {nil, false},
		"a limit for all":                      {[]model.RouteLimit{{}}, false},
		"a limit by method":                    {[]model.RouteLimit{{Matches: method}}, false},
		"a limit by path":                      {[]model.RouteLimit{{Matches: method}, {Matches: path}}, true},
		"a limit that a path is exempted from": {[]model.RouteLimit{{Matches: method, Unless: path}}, true},
	} {
		if got := rulesOnPaths(model.InboundPort{Limits: c.limits}); got != c.want {
			t.Errorf("%s: guarded is %v, want %v", name, got, c.want)
		}
	}
}
