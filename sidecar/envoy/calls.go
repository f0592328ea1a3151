package envoy

import (
	"encoding/json"
	"strings"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

// callMark is how a line of Envoy's begins that says what became of a call. See package translator.
const callMark = `{"access":"`

// At most this many lines about calls are written at once, and this many a second in the long run: whoever is refused
// can try again as often as they like.
const (
	callsAtOnce    = 100
	callsPerSecond = 10
)

// callLog writes what Envoy says of calls that access policy refused, or would refuse. What is too much is counted, and
// the next line tells how many were left out.
type callLog struct {
	log   zerolog.Logger
	limit *rate.Limiter

	mu      sync.Mutex
	leftOut uint64
}

func newCallLog(log zerolog.Logger) *callLog {
	return &callLog{log: log, limit: rate.NewLimiter(callsPerSecond, callsAtOnce)}
}

// call is one line. Method and path are of HTTP alone; From is empty where the caller proved none.
type call struct {
	Access string `json:"access"`
	From   string `json:"from"` // the identity that was proved
	// Code names the rule that matched, and Unmatched what refuses if none did.
	Code      string `json:"code"`
	Unmatched string `json:"unmatched"`
	Port      uint16 `json:"port"`
	Method    string `json:"method"`
	Path      string `json:"path"`
}

// take says whether a line is about a call. Then it is written, or counted as left out.
func (l *callLog) take(line string) bool {
	var c call
	if !strings.HasPrefix(line, callMark) || json.Unmarshal([]byte(line), &c) != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.limit.Allow() {
		l.leftOut++
		return true
	}
	e := l.log.Info().Str("access", c.Access).Str("code", c.code()).Uint16("port", c.Port)
	for _, field := range [][2]string{{"from", c.From}, {"method", c.Method}, {"path", c.Path}} {
		if field[1] != "" {
			e = e.Str(field[0], field[1])
		}
	}
	if l.leftOut > 0 {
		e = e.Uint64("left_out", l.leftOut)
		l.leftOut = 0
	}
	e.Msg(map[string]string{"refused": "access denied", "audit": "access would be denied"}[c.Access])
	return true
}

func (c call) code() string {
	if c.Code != "" {
		return c.Code
	}
	return c.Unmatched
}
