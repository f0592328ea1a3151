package live

import (
	"os"
	"testing"
	"time"

	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
	"github.com/heddle-mesh/heddle/test/wait"
)

// api is shared by all tests, each of which has a namespace of its own.
var api = kubetest.New()

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		os.Exit(child(text, os.Stdout, os.Stderr))
	}
	os.Exit(api.Main(m))
}

// patience is how long a test waits for what should take a moment. Only a test that fails waits as long.
const patience = 30 * time.Second

// eventually waits for ok to hold, asking it again and again.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	wait.Until(t, patience, what, ok)
}
