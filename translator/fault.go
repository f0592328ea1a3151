package translator

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"

	"github.com/heddle-mesh/heddle/model"
)

// fault delays and aborts on purpose, all requests or those that ask for it by a header.
func fault(f *model.Fault) *faultv3.HTTPFault {
	out := &faultv3.HTTPFault{}
	if f.Header != "" {
		out.Headers = []*routev3.HeaderMatcher{present(f.Header)}
	}
	if d := f.Delay; d != nil {
		out.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: duration(d.Duration)},
			Percentage:         percent(d.Percent),
		}
	}
	if a := f.Abort; a != nil {
		out.Abort = &faultv3.FaultAbort{Percentage: percent(a.Percent)}
		if a.GRPC != nil {
			out.Abort.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: *a.GRPC}
		} else {
			out.Abort.ErrorType = &faultv3.FaultAbort_HttpStatus{HttpStatus: a.Status}
		}
	}
	return out
}
