package mesh

import (
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

func outlier(p *policy.OutlierDetection) *model.OutlierDetection {
	o := &model.OutlierDetection{
		Consecutive5xx:           or(p.Consecutive5xx, 0),
		ConsecutiveGatewayErrors: or(p.ConsecutiveGatewayErrors, 0),
		ConsecutiveLocalOrigin:   or(p.ConsecutiveLocalOrigin, 0),
		Interval:                 span(p.Interval),
		BaseEjection:             span(p.BaseEjection),
		MaxEjection:              span(p.MaxEjection),
		MaxEjectionPercent:       or(p.MaxEjectionPercent, 0),
	}
	if rate := p.SuccessRate; rate != nil {
		o.SuccessRate = &model.SuccessRate{
			MinimumHosts:  or(rate.MinimumHosts, 0),
			RequestVolume: or(rate.RequestVolume, 0),
			StdevFactor:   or(rate.StdevFactor, 0),
		}
	}
	return o
}
