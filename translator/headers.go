package translator

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/heddle-mesh/heddle/model"
)

// headersToAdd renders what is set, in place of what was there, and what is added to it.
func headersToAdd(c model.HeaderChange) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	for _, h := range c.Set {
		out = append(out, headerOption(h, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
	}
	for _, h := range c.Add {
		out = append(out, headerOption(h, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
	}
	return out
}

func headerOption(h model.Header, how corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: h.Name, Value: literal(h.Value)},
		AppendAction: how,
	}
}
