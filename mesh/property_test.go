package mesh

import "github.com/heddle-mesh/heddle/model"

// everything is all views of a State.
type everything struct {
	Outbounds map[View]*model.Outbound
	Endpoints map[model.Key]*model.Endpoints
	Workloads map[model.Key]*model.Workload
	Settings  *model.Settings
}

func views(s *State) everything {
	all := everything{map[View]*model.Outbound{}, map[model.Key]*model.Endpoints{}, map[model.Key]*model.Workload{}, s.Settings()}
	for k, svc := range s.services {
		for audience, view := range svc.outbounds {
			all.Outbounds[View{audience, k}] = view
		}
		if svc.endpoints != nil {
			all.Endpoints[k] = svc.endpoints
		}
	}
	for k := range s.workloads {
		all.Workloads[k] = s.Workload(k)
	}
	return all
}
