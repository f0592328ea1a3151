package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnAPIServerWithAFaultIsToldOfWithANextCommand(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "etcd is gone", http.StatusInternalServerError)
	}))
	t.Cleanup(server.Close)
	config := filepath.Join(t.TempDir(), "config")
	text := `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"` + server.URL + `"}}],
"users":[{"name":"u","user":{"token":"t"}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"current-context":"c"}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"proxy", "status"}, {"proxy", "logs", "shop/web"}, {"upgrade"}, {"version"}} {
		_, problems, code := heddleIn(t, config, args...)
		if code == 0 || !strings.Contains(problems, "kubectl get --raw '/readyz?verbose' tells of which part") {
			t.Errorf("heddle %v ends with %d and says %s", args, code, problems)
		}
	}
}
