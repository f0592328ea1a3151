package translator

import (
	"slices"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/heddle-mesh/heddle/model"
)

// Where Envoy's RBAC filters leave what they found, as dynamic metadata, and the prefixes under which ours do.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/rbac_filter#dynamic-metadata
const (
	httpFindings = "envoy.filters.http.rbac"
	tcpFindings  = "envoy.filters.network.rbac"

	kindDeny    = "deny"
	kindAllow   = "allow"
	auditPrefix = "audit_"

	enforcedResult = "enforced_engine_result"
	enforcedRule   = "enforced_effective_policy_id"
	shadowResult   = "shadow_engine_result"
	shadowRule     = "shadow_effective_policy_id"
)

// What a line of the log says became of a call. It is the first word of the line, by which the agent knows it.
const (
	callRefused = "refused"
	callAudited = "audit" // it was let through, and would be refused
)

// codeKey and shadowCodeKey are where an inbound virtual host says what refuses if nothing allows.
const (
	codeKey       = "access"
	shadowCodeKey = "audit"
)

// accessCodes puts the codes of refusals because nothing allows beside the rules, in the route configuration, where a
// change of them touches no connection.
func accessCodes(a *model.Access) *corev3.Metadata {
	fields := map[string]*structpb.Value{codeKey: structpb.NewStringValue(unmatchedCode(a))}
	if a != nil && a.Shadow != nil && a.Shadow.Closed {
		fields[shadowCodeKey] = structpb.NewStringValue(unmatchedCode(a.Shadow))
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{provenanceKey: {Fields: fields}}}
}

// unmatchedCode is the code of a refusal because nothing allows.
func unmatchedCode(a *model.Access) string {
	if a == nil || a.Code == "" {
		return model.AccessDefault
	}
	return a.Code
}

// httpRefusals log the requests that are refused, and those that documents in audit mode would refuse; no others.
func httpRefusals() []*accesslogv3.AccessLog {
	request := map[string]string{"method": "%REQ(:METHOD):16%", "path": "%PATH(NQ:PATH):256%"}
	passed := func(kind string) *accesslogv3.AccessLogFilter {
		return foundOrNothing(httpFindings, kind+enforcedResult, "allowed")
	}
	return []*accesslogv3.AccessLog{
		logCalls(callRefused, eitherOf(
			found(httpFindings, kindDeny+enforcedResult, "denied"),
			found(httpFindings, kindAllow+enforcedResult, "denied"),
		), request, map[string]string{
			"code":      "%DYNAMIC_METADATA(" + httpFindings + ":" + kindDeny + enforcedRule + ")%",
			"unmatched": "%METADATA(VIRTUAL_HOST:" + provenanceKey + ":" + codeKey + ")%",
		}),
		logCalls(callAudited, allOf(eitherOf(
			found(httpFindings, auditPrefix+kindDeny+shadowResult, "denied"),
			found(httpFindings, auditPrefix+kindAllow+shadowResult, "denied"),
		), passed(kindDeny), passed(kindAllow)), request, map[string]string{
			"code":      "%DYNAMIC_METADATA(" + httpFindings + ":" + auditPrefix + kindDeny + shadowRule + ")%",
			"unmatched": "%METADATA(VIRTUAL_HOST:" + provenanceKey + ":" + shadowCodeKey + ")%",
		}),
	}
}

// tcpRefusals log the connections to one TCP chain that are refused, and those that documents in audit mode would
// refuse. Whom a chain does not let pass is known beforehand, and Envoy's RBAC filter is never asked about them: they
// fail in the handshake, where they have to prove who they are, and elsewhere are led nowhere.
func tcpRefusals(a *model.Access, caller clientCertificate, trustDomain string) []*accesslogv3.AccessLog {
	restricted := tcpPrincipals(a, trustDomain) != nil
	var out []*accesslogv3.AccessLog
	switch {
	case caller == callerProved && restricted:
		out = append(out, logCalls(callRefused, wrongIdentity(), map[string]string{"code": strings.Join(tcpCodes(a), ",")}))
	case caller != callerProved && !tcpTakesAnybody(a):
		return []*accesslogv3.AccessLog{logCalls(callRefused, nil, map[string]string{"code": unprovedCode(a)})}
	}
	if a != nil && a.Shadow != nil {
		out = append(out, logCalls(callAudited, eitherOf(
			found(tcpFindings, tcpAudit(kindDeny)+shadowResult, "denied"),
			found(tcpFindings, tcpAudit(unmatchedCode(a.Shadow))+shadowResult, "denied"),
		), map[string]string{
			"code":      "%DYNAMIC_METADATA(" + tcpFindings + ":" + tcpAudit(kindDeny) + shadowRule + ")%",
			"unmatched": unmatchedCode(a.Shadow),
		}))
	}
	return out
}

// tcpCodes are all that may refuse a caller of a TCP port who proved an identity, at least one. Of very many rules there
// are only the first few.
func tcpCodes(a *model.Access) []string {
	const most = 8
	var out []string
	if a != nil {
		for _, r := range a.Deny[:min(len(a.Deny), most)] {
			out = append(out, r.Code)
		}
	}
	if a == nil || a.Closed || len(out) == 0 {
		out = append(out, unmatchedCode(a))
	}
	return out
}

// unprovedCode is what refuses, on a TCP port, all who prove no identity.
func unprovedCode(a *model.Access) string {
	if a != nil {
		if i := slices.IndexFunc(a.Deny, func(r model.AccessRule) bool { return len(r.From) == 0 }); i >= 0 {
			return a.Deny[i].Code
		}
	}
	return unmatchedCode(a)
}

// logCalls writes one line of JSON for each call that a filter matches, nil for all. Nothing in it can be a secret:
// there is no query and no header but the method.
func logCalls(became string, filter *accesslogv3.AccessLogFilter, fields ...map[string]string) *accesslogv3.AccessLog {
	line := map[string]*structpb.Value{
		"access": structpb.NewStringValue(became),
		"from":   structpb.NewStringValue("%DOWNSTREAM_PEER_URI_SAN%"),
		"port":   structpb.NewStringValue("%DOWNSTREAM_LOCAL_PORT%"),
	}
	for _, more := range fields {
		for name, value := range more {
			line[name] = structpb.NewStringValue(value)
		}
	}
	return &accesslogv3.AccessLog{
		Name:   became,
		Filter: filter,
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: typed(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: line}},
			}},
		})},
	}
}

// wrongIdentity matches connections whose client proved an identity that may not use the port: its certificate leads to
// the trust bundle, which Envoy looks at first.
func wrongIdentity() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: celFilter("connection.transport_failure_reason.contains('SAN matcher')"),
	}}
}

func celFilter(expression string) *accesslogv3.ExtensionFilter {
	return &accesslogv3.ExtensionFilter{
		Name:       "envoy.access_loggers.extension_filters.cel",
		ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: typed(&celv3.ExpressionFilter{Expression: expression})},
	}
}

// found matches what a filter left as dynamic metadata.
func found(by, key, value string) *accesslogv3.AccessLogFilter {
	f := foundOrNothing(by, key, value)
	f.GetMetadataFilter().MatchIfKeyNotFound = no()
	return f
}

// foundOrNothing matches the same, or that there is nothing under the key.
func foundOrNothing(by, key, value string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{MetadataFilter: &accesslogv3.MetadataFilter{
		Matcher: &matcherv3.MetadataMatcher{
			Filter: by,
			Path:   []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}}},
			Value:  &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exact(value)}},
		},
		MatchIfKeyNotFound: yes(),
	}}}
}

func eitherOf(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{OrFilter: &accesslogv3.OrFilter{Filters: filters}}}
}

func allOf(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{Filters: filters}}}
}
