package policy

import (
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode"
)

// Regex is an RE2 expression that matches the whole of a value.
type Regex string

// What a regular expression may cost. Every sidecar compiles it, and Envoy is told not to judge it again.
const (
	maxRegex     = 1024  // bytes
	maxRegexSize = 10000 // characters and ranges of characters after repetitions are written out; RE2 takes that many in 8 MB
)

func (Regex) form() form { return form{name: "RE2 expression"} }

func (r *Regex) setText(s string) *flaw {
	if len(s) > maxRegex {
		return flawf(CodeRegexSize, fmt.Sprintf("write up to %d bytes", maxRegex), "the expression has %d bytes", len(s))
	}
	if flaw := escapesFlaw(s); flaw != nil {
		return flaw
	}
	re, err := syntax.Parse(asBytes(s), syntax.Perl)
	if err != nil {
		return flawf(CodeRegex, "write it as https://github.com/google/re2/wiki/Syntax says", "%s", clip(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
	}
	if size := regexSize(re); size > maxRegexSize {
		return flawf(CodeRegexSize, fmt.Sprintf("repeat less: up to %d are good", maxRegexSize), "the expression has %d characters and ranges when its repetitions are written out", size)
	}
	*r = Regex(s)
	return nil
}

// regexSize estimates the size of the program that re compiles to, without compiling it: a few bytes can ask for
// millions of instructions.
func regexSize(re *syntax.Regexp) int {
	size := 1
	switch re.Op {
	case syntax.OpLiteral:
		size = len(re.Rune)
	case syntax.OpCharClass:
		size = len(re.Rune) / 2
	}
	for _, sub := range re.Sub {
		size += regexSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 1)
	}
	return min(size, 1<<30)
}

// asBytes gives each byte of s as a character of its own. Envoy's RE2 reads expressions and values so, byte by byte:
// é is two characters there, which may end a range that é would not.
func asBytes(s string) string {
	all := make([]rune, len(s))
	for i := range len(s) {
		all[i] = rune(s[i])
	}
	return string(all)
}

// escapesFlaw tells escapes that Go's syntax has and that of Envoy's RE2 has not: names of Unicode classes in forms of
// their own, and characters that are no byte.
func escapesFlaw(s string) *flaw {
	for {
		_, after, found := strings.Cut(s, `\`)
		if !found || after == "" {
			return nil
		}
		s = after[1:]
		switch after[0] {
		case 'Q':
			_, s, _ = strings.Cut(s, `\E`)
		case 'p', 'P':
			if name, ok := braced(s); ok && !isUnicodeClass(strings.TrimPrefix(name, "^")) {
				return flawf(CodeRegex, `write one such as \p{L}, \p{Lu} or \p{Greek}`, "%q is not a Unicode class of RE2", clip(`\`+after[:1]+"{"+name+"}"))
			}
		case 'x':
			if digits, ok := braced(s); ok && beyondByte(digits) {
				return flawf(CodeRegex, `write the bytes of its UTF-8 form, such as \xc3\xa9`, "%q is no byte, and values are compared byte by byte", clip(`\x{`+digits+"}"))
			}
		}
	}
}

func braced(s string) (string, bool) {
	inside, _, closed := strings.Cut(strings.TrimPrefix(s, "{"), "}")
	return inside, closed && strings.HasPrefix(s, "{")
}

func beyondByte(digits string) bool {
	n, err := strconv.ParseUint(digits, 16, 32)
	return err == nil && n > 0xff
}

// isUnicodeClass says whether RE2 knows the name: it takes a general category of one or two letters or a script, in
// just that form (https://github.com/google/re2/wiki/Syntax). Cn and LC are no categories there.
func isUnicodeClass(name string) bool {
	return name == "Any" || unicode.Scripts[name] != nil || unicode.Categories[name] != nil && name != "Cn" && name != "LC"
}
