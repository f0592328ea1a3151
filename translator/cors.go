package translator

import (
	"strconv"
	"strings"

	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// cors answers preflights and marks responses (https://fetch.spec.whatwg.org/#http-cors-protocol).
func cors(c *model.CORS) *corsv3.CorsPolicy {
	out := &corsv3.CorsPolicy{
		AllowMethods:     strings.Join(c.Methods, ","),
		AllowHeaders:     strings.Join(c.Headers, ","),
		ExposeHeaders:    strings.Join(c.Expose, ","),
		AllowCredentials: wrapperspb.Bool(c.Credentials),
	}
	if c.MaxAge > 0 {
		out.MaxAge = strconv.Itoa(int(c.MaxAge.Seconds()))
	}
	for _, o := range c.Origins {
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, originMatch(o))
	}
	return out
}

func originMatch(o model.OriginMatch) *matcherv3.StringMatcher {
	switch {
	case o.Regex != "":
		return matches(o.Regex)
	case o.Prefix != "":
		return hasPrefix(o.Prefix)
	case o.Exact == "*":
		return matches(".*")
	}
	return exact(o.Exact)
}
