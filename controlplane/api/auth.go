package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Caller is what somebody may see.
type Caller struct {
	Namespace string // whose facts; empty for all
	Tap       bool   // requests too
}

// Sees says whether the caller may see a namespace.
func (c Caller) Sees(namespace string) bool { return c.Namespace == "" || c.Namespace == namespace }

// Authenticator says who asks. It fails with a *Refusal.
type Authenticator interface {
	Authenticate(r *http.Request) (Caller, error)
}

// Owner takes everybody for who runs the control plane: for a socket that nobody else can open.
type Owner struct{}

// Authenticate lets everything be seen.
func (Owner) Authenticate(*http.Request) (Caller, error) { return Caller{Tap: true}, nil }

// Codes of refusals. docs/cli.md explains them.
const (
	NoToken           = "no-token"
	TokenMalformed    = "token-malformed"
	TokenExpired      = "token-expired"
	WrongAudience     = "wrong-audience"
	TokenRefused      = "token-refused"
	NotAViewer        = "not-a-viewer"
	OtherNamespace    = "other-namespace"
	TooMany           = "rate-limited"
	ReviewUnavailable = "review-unavailable"
)

// TokenReviews asks the API server about a token; client-go's AuthenticationV1().TokenReviews() does.
type TokenReviews interface {
	Create(ctx context.Context, review *authenticationv1.TokenReview, o metav1.CreateOptions) (*authenticationv1.TokenReview, error)
}

// Reviewer authenticates by tokens that the API server reviews, each time anew: people ask rarely, and a token whose
// ServiceAccount is deleted stops being good at once.
type Reviewer struct {
	Reviews      TokenReviews
	ControlPlane string // namespace, whose accounts see everything
	limit        *rate.Limiter
	now          func() time.Time
}

// NewReviewer makes one that asks at most 20 times a second.
func NewReviewer(reviews TokenReviews, controlPlane string) *Reviewer {
	return &Reviewer{Reviews: reviews, ControlPlane: controlPlane, limit: rate.NewLimiter(20, 40), now: time.Now}
}

const (
	maxToken      = 16 << 10 // bytes; real ones have about 1,200
	reviewTimeout = 10 * time.Second
	accountPrefix = "system:serviceaccount:"
	newToken      = "; ask for one anew: kubectl create token " + ViewAccount + " --audience " + Audience
)

// Authenticate reads the bearer token of a request.
func (v *Reviewer) Authenticate(r *http.Request) (Caller, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return Caller{}, refuse(http.StatusUnauthorized, NoToken, "no token was sent as Authorization: Bearer"+newToken)
	}
	if err := v.glance(token); err != nil {
		return Caller{}, err
	}
	if !v.limit.AllowN(v.now(), 1) {
		return Caller{}, refuse(http.StatusTooManyRequests, TooMany, "too many ask at once; ask again")
	}
	ctx, cancel := context.WithTimeout(r.Context(), reviewTimeout)
	defer cancel()
	answer, err := v.Reviews.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return Caller{}, refuse(http.StatusServiceUnavailable, ReviewUnavailable, "the control plane cannot have the token reviewed: "+err.Error()+"; ask again, or grant it create on tokenreviews")
	}
	return v.callerOf(answer.Status)
}

// callerOf reads the API server's answer. A server that does not know audiences leaves status.audiences empty.
func (v *Reviewer) callerOf(s authenticationv1.TokenReviewStatus) (Caller, error) {
	if !s.Authenticated || s.Error != "" {
		return Caller{}, refuse(http.StatusUnauthorized, TokenRefused, "the API server does not accept the token"+newToken)
	}
	if !slices.Contains(s.Audiences, Audience) {
		return Caller{}, refuse(http.StatusUnauthorized, WrongAudience, "the token is not for audience "+Audience+newToken)
	}
	rest, ok := strings.CutPrefix(s.User.Username, accountPrefix)
	namespace, account, split := strings.Cut(rest, ":")
	if !ok || !split || len(validation.IsDNS1123Label(namespace)) > 0 || account != ViewAccount && account != TapAccount {
		return Caller{}, refuse(http.StatusForbidden, NotAViewer, "the token is not that of a ServiceAccount "+ViewAccount+" or "+TapAccount)
	}
	c := Caller{Namespace: namespace, Tap: account == TapAccount}
	if namespace == v.ControlPlane {
		c.Namespace = ""
	}
	return c, nil
}

// glance refuses, with a reason that the API server does not tell apart, a token that itself says that it is of no use.
// Nothing is granted for what it says.
func (v *Reviewer) glance(token string) error {
	malformed := refuse(http.StatusUnauthorized, TokenMalformed, "that is no ServiceAccount token"+newToken)
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return malformed
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return malformed
	}
	var claims struct {
		Audience json.RawMessage `json:"aud"` // a string or several (RFC 7519, 4.1.3)
		Expiry   float64         `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return malformed
	}
	var one string
	var several []string
	if json.Unmarshal(claims.Audience, &one) == nil {
		several = []string{one}
	} else if json.Unmarshal(claims.Audience, &several) != nil {
		return malformed
	}
	switch {
	case !slices.Contains(several, Audience):
		return refuse(http.StatusUnauthorized, WrongAudience, "the token is not for audience "+Audience+newToken)
	case float64(v.now().Unix()) >= claims.Expiry:
		return refuse(http.StatusUnauthorized, TokenExpired, "the token has expired"+newToken)
	}
	return nil
}

// Refusal is an answer that is none. It holds no token.
type Refusal struct {
	Status  int // of HTTP
	Code    string
	Message string
}

// Error gives the message with its code.
func (r *Refusal) Error() string {
	if r.Code == "" {
		return r.Message
	}
	return r.Message + " (" + r.Code + ")"
}

func refuse(status int, code, message string) *Refusal { return &Refusal{status, code, message} }
