package translator

import (
	"cmp"
	"regexp"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/heddle-mesh/heddle/model"
)

// rewrite changes the path and host that the server sees.
func rewrite(a *routev3.RouteAction, r *model.Rewrite, path *model.PathMatch) {
	if r == nil {
		return
	}
	switch {
	case r.Path != "":
		a.RegexRewrite = substitute("^.*$", r.Path)
	case r.Prefix != nil:
		a.RegexRewrite = replacePrefix(path, *r.Prefix)
	}
	if r.Host != "" {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: r.Host}
	}
}

// replacePrefix puts another prefix in place of the matched one, with exactly one slash between it and what follows.
// Envoy's own prefix_rewrite of /v2 to / makes //x of /v2/x.
func replacePrefix(path *model.PathMatch, with string) *matcherv3.RegexMatchAndSubstitute {
	matched := ""
	if path != nil {
		matched = strings.TrimRight(path.Prefix+path.Exact, "/")
	}
	with = strings.TrimRight(with, "/")
	if with == "" {
		return substitute("^"+regexp.QuoteMeta(matched)+"/?", "/")
	}
	if matched == "" {
		return substitute("^/", with+"/")
	}
	return substitute("^"+regexp.QuoteMeta(matched), with)
}

// substitute replaces what the expression matches in the path without its query.
func substitute(re, with string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{Pattern: regex(re), Substitution: strings.ReplaceAll(with, `\`, `\\`)}
}

func redirect(r *model.Redirect, path *model.PathMatch) *routev3.RedirectAction {
	out := &routev3.RedirectAction{
		HostRedirect: r.Host, PortRedirect: r.Port, ResponseCode: redirectCode(r.Status),
		// Left to Envoy, x-forwarded-proto would say it.
		SchemeRewriteSpecifier: &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: cmp.Or(r.Scheme, "http")},
	}
	switch {
	case r.Path != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: r.Path}
	case r.Prefix != nil:
		out.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: replacePrefix(path, *r.Prefix)}
	}
	return out
}

func redirectCode(status uint32) routev3.RedirectAction_RedirectResponseCode {
	switch status {
	case 302:
		return routev3.RedirectAction_FOUND
	case 303:
		return routev3.RedirectAction_SEE_OTHER
	case 307:
		return routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		return routev3.RedirectAction_PERMANENT_REDIRECT
	}
	return routev3.RedirectAction_MOVED_PERMANENTLY
}

func directResponse(d *model.DirectResponse) *routev3.DirectResponseAction {
	out := &routev3.DirectResponseAction{Status: d.Status}
	if d.Body != "" {
		out.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: d.Body}}
	}
	return out
}
