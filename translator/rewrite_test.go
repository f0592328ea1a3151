package translator

import (
	"regexp"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

func TestAPrefixIsReplacedWithExactlyOneSlashAfterIt(t *testing.T) {
	tests := []struct{ prefix, with, path, want string }{
		{"/v2", "/", "/v2", "/"},
		{"/v2", "/", "/v2/", "/"},
		{"/v2", "/", "/v2/items", "/items"},
		{"/v2/", "/", "/v2/items", "/items"},
		{"/v2", "/api", "/v2", "/api"},
		{"/v2", "/api", "/v2/items", "/api/items"},
		{"/v2", "/api/", "/v2/items", "/api/items"},
		{"/", "/api", "/items", "/api/items"},
		{"/", "/api", "/", "/api/"},
		{"/a.b", "/x", "/a.b/c", "/x/c"},
		{"/v2", `/\1`, "/v2/x", `/\1/x`},
	}
	for _, tt := range tests {
		s := replacePrefix(&model.PathMatch{Prefix: tt.prefix}, tt.with)
		re := regexp.MustCompile(s.Pattern.Regex)
		got := re.ReplaceAllLiteralString(tt.path, strings.ReplaceAll(s.Substitution, `\\`, `\`))
		if got != tt.want {
			t.Errorf("prefix %s to %s: %s became %s, want %s", tt.prefix, tt.with, tt.path, got, tt.want)
		}
	}
}
