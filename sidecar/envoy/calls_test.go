package envoy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func said(lines ...string) string {
	var out bytes.Buffer
	log := zerolog.New(&out)
	copyLog(log, newCallLog(log), strings.NewReader(strings.Join(lines, "\n")))
	return out.String()
}

func TestALineAboutACallIsOneLineOfJSONWithoutWhatIsNotKnown(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"access":"refused","code":"HDA-1a2b3c4d","from":"spiffe://x/ns/a/sa/b","method":"GET","path":"/\"\n","port":80,"unmatched":"HDA-default"}`,
			`{"level":"info","access":"refused","code":"HDA-1a2b3c4d","port":80,"from":"spiffe://x/ns/a/sa/b","method":"GET","path":"/\"\n","message":"access denied"}`},
		{`{"access":"audit","code":null,"from":null,"method":"GET","path":"/","port":80,"unmatched":"HDA-none-1a2b3c4d"}`,
			`{"level":"info","access":"audit","code":"HDA-none-1a2b3c4d","port":80,"method":"GET","path":"/","message":"access would be denied"}`},
		{`{"access":"refused","code":"HDA-default","from":null,"port":5432}`,
			`{"level":"info","access":"refused","code":"HDA-default","port":5432,"message":"access denied"}`},
		{`{"access":"refused","code":`, `{"level":"warn","envoy":"","message":"{\"access\":\"refused\",\"code\":"}`},
		{`info main {"access":"refused"}`, `{"level":"info","envoy":"main","message":"{\"access\":\"refused\"}"}`},
	} {
		if got := strings.TrimSpace(said(c.line)); got != c.want {
			t.Errorf("%s\nis written as\n%s\nwant\n%s", c.line, got, c.want)
		}
	}
}

func TestLinesAboutCallsAreBoundedAndTellHowManyWereLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		calls := newCallLog(zerolog.New(&out))
		call := func(n int) {
			for i := range n {
				if !calls.take(fmt.Sprintf(`{"access":"refused","code":"HDA-default","port":%d}`, i+1)) {
					t.Fatal("it is no line about a call")
				}
			}
		}
		written := func(what string, want int, last string) {
			t.Helper()
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if len(lines) != want || !strings.Contains(lines[0], last) {
				t.Errorf("%s: %d lines, the first %s; want %d, and %s", what, len(lines), lines[0], want, last)
			}
			out.Reset()
		}
		call(1000)
		written("at once", callsAtOnce, `"port":1,`)
		time.Sleep(time.Second)
		call(1000)
		written("a second later", callsPerSecond, `"left_out":900`)
		time.Sleep(time.Hour)
		call(1)
		written("much later", 1, `"left_out":990`)
		call(1)
		written("after that", 1, `{"level":"info","access":"refused","code":"HDA-default","port":1,"message"`)
	})
}
