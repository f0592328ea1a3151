package attest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The extras by which a token that is bound to a pod names it
// (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#schema-for-service-account-private-claims).
const (
	extraPodName  = "authentication.kubernetes.io/pod-name"
	extraPodUID   = "authentication.kubernetes.io/pod-uid"
	extraNodeName = "authentication.kubernetes.io/node-name"
)

const accountPrefix = "system:serviceaccount:"

// maxToken bounds a token, in bytes. Real ones have about 1,200.
const maxToken = 16 << 10

// subject is who a reviewed token belongs to.
type subject struct {
	namespace, account, pod, podUID, node string
}

// subjectOf reads the API server's answer. Everything must be said, once, and nothing is guessed: a server that does
// not know audiences leaves status.audiences empty, and its answer is then about any audience at all.
func subjectOf(status authenticationv1.TokenReviewStatus, audience string) (subject, *Refusal) {
	switch {
	case status.Error != "":
		return subject{}, &Refusal{TokenRefused, "the API server does not accept the token; send the pod's current one", errors.New(shorten(status.Error))}
	case !status.Authenticated:
		return subject{}, refuse(TokenRefused, "the API server does not accept the token; send the pod's current one, with audience "+audience)
	case !slices.Contains(status.Audiences, audience):
		return subject{}, refuse(WrongAudience, "the token is not for audience "+audience+"; project one that is into the pod")
	}
	var s subject
	var ok bool
	if s.namespace, s.account, ok = accountOf(status.User.Username); !ok {
		return subject{}, refuse(NotServiceAccount, "the token is not a ServiceAccount's; send the one that is projected into the pod")
	}
	for key, to := range map[string]*string{extraPodName: &s.pod, extraPodUID: &s.podUID, extraNodeName: &s.node} {
		values := status.User.Extra[key]
		if len(values) != 1 || values[0] == "" {
			return subject{}, refuse(NotPodBound, "the token does not name one pod, its UID and its node ("+key+"); use a token that is projected into a pod, on Kubernetes 1.30 or later")
		}
		*to = values[0]
	}
	if len(validation.IsDNS1123Subdomain(s.pod)) > 0 || strings.ContainsAny(s.podUID, "/\x00") {
		return subject{}, refuse(NotPodBound, "the token's pod has no valid name or UID")
	}
	return s, nil
}

// accountOf takes system:serviceaccount:NAMESPACE:NAME apart, and nothing that only looks like it.
func accountOf(username string) (namespace, account string, ok bool) {
	rest, ok := strings.CutPrefix(username, accountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, account, ok = strings.Cut(rest, ":")
	if !ok || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(account)) > 0 {
		return "", "", false
	}
	return namespace, account, true
}

// claims are what a token says of itself. Nothing is granted for them; but a token that itself says that it is of no
// use is refused without asking anybody, and with a reason that the API server does not tell apart.
type claims struct {
	Audience audiences `json:"aud"`
	Expiry   float64   `json:"exp"` // seconds since 1970; RFC 7519 allows fractions
}

func (c claims) expiry() time.Time { return time.Unix(int64(c.Expiry), 0) }

// audiences is a string or a list of strings (RFC 7519, 4.1.3).
type audiences []string

func (a *audiences) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// glance refuses a token that cannot be good.
func glance(token, audience string, now time.Time) (claims, *Refusal) {
	if token == "" {
		return claims{}, refuse(NoToken, "no token was sent; send the pod's projected token as Authorization: Bearer")
	}
	malformed := refuse(TokenMalformed, "that is no ServiceAccount token; send the one that is projected into the pod")
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return claims{}, malformed
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, malformed
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil || c.Expiry <= 0 || c.Expiry > 1<<40 {
		return claims{}, malformed
	}
	switch {
	case !slices.Contains(c.Audience, audience):
		return claims{}, refuse(WrongAudience, "the token is not for audience "+audience+"; project one that is into the pod")
	case !now.Before(c.expiry()):
		return claims{}, refuse(TokenExpired, "the token has expired; read it anew from the projected volume")
	}
	return c, nil
}

// shorten makes foreign text fit for a message.
func shorten(text string) string {
	const most = 200
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= most {
		return text
	}
	end := most
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}
