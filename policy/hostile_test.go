package policy

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hostile gives texts of a size that ask for much work.
func hostile(size int) map[string]string {
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)+1)[:size-100] }
	head := "kind: Traffic\nservice: catalog\n"
	list := func(item func(i int) string) string {
		var b strings.Builder
		b.WriteString(head + "routes:\n")
		for i := 0; b.Len() < size-200; i++ {
			b.WriteString(item(i))
		}
		return b.String()
	}
	deep := func(unit string) string {
		var b strings.Builder
		for i := 0; b.Len() < size-2000; i++ {
			b.WriteString(strings.Repeat(" ", i) + unit + "\n")
		}
		return b.String()
	}
	texts := map[string]string{
		"routes": list(func(i int) string {
			return fmt.Sprintf("- name: r%d\n  match: [{path: {exact: /%d}}]\n  to: [{service: a, weight: 1}]\n", i, i)
		}),
		"routes of one name": list(func(int) string { return "- name: a\n" }),
		"regexes": list(func(i int) string {
			return fmt.Sprintf("- {name: r%d, match: [{path: {regex: '(\\pL{9}|[^a]{99}){9}'}}]}\n", i)
		}),
		"alternatives": head + "routes:\n- name: a\n  match: [" + fill("{},") + "]\n",
		"conditions":   head + "retries: {attempts: 1, on: [" + fill("reset,") + "]}\n",
		"methods":      head + "retries: {attempts: 1, methods: [" + fill("GET,") + "]}\n",
		"headers":      list(func(i int) string { return fmt.Sprintf("- {name: r%d, requestHeaders: {remove: [a, a, host]}}\n", i) }),
		"removed headers": head + "routes:\n- name: a\n  requestHeaders: {remove: [" +
			fill("a,") + "]}\n",
		"labels": head + "routes:\n- name: a\n  to: [{service: a, subset: {" + func() string {
			var b strings.Builder
			for i := 0; b.Len() < size-200; i++ {
				fmt.Fprintf(&b, "k%d: v,", i)
			}
			return b.String()
		}() + "}}]\n",
		"unknown keys": func() string {
			var b strings.Builder
			for i := 0; b.Len() < size-100; i++ {
				fmt.Fprintf(&b, "retries%d: 1\n", i)
			}
			return b.String()
		}(),
		"many routes": list(func(i int) string { return fmt.Sprintf("- name: %d\n", i) }),
		"many methods": head + "retries: {attempts: 1, methods: [" + func() string {
			var b strings.Builder
			for i := 0; b.Len() < size-200; i++ {
				b.WriteString(strings.Map(func(r rune) rune { return r - '0' + 'A' }, fmt.Sprint(i)) + ",")
			}
			return b.String()
		}() + "]}\n",
		"one key":    head + fill("a: 1\n"),
		"long key":   head + fill("a") + ": 1\n",
		"long value": "kind: " + fill("a"),
		"long regex": list(func(int) string {
			return "- {name: a, match: [{path: {regex: '" + strings.Repeat("(a|", 100000) + "'}}]}\n"
		}),
		"deep map":    deep("a:"),
		"deep list":   deep("-"),
		"mixed depth": deep("- a:"),
	}
	for _, unit := range []string{
		"[", "{", "{a: ", "[{", "- ", "? ", ": ", "a: ", "# a\n", "\n", "\r\n", " ", "---\n", "--- a\n", "...\n", "&a ", "&a a\n", "*a ", "- *a\n",
		"- &a a\n", "!a ", "!!str ", "|\n", ">\n", "- |\n", "- |\n\n", "\"", "'", "\"\\x41", "a, ", "[a, ", "},", "a\n", "a\n\n", "- a\n", "- - a\n", "a: b\n", "? a\n",
		"%a\n", "# a\n- a\n", "- a # b\n", "a: # b\n", "\ta", "a:\n- b\n", "'a': ", "<<: ", "é", "  \n", "- a\n# b\n\n# c\n",
	} {
		texts[fmt.Sprintf("%q", unit)] = fill(unit)
		texts[fmt.Sprintf("a list of %q", unit)] = head + "routes: [" + fill(unit)
	}
	return texts
}

func TestTheWorstDocumentIsReadInBoundedTimeAndSaysBoundedlyMuch(t *testing.T) {
	// Far more than it takes, and far less than anything quadratic would. It is the processor's time, as a test that runs
	// beside many others gets little of it.
	const most = 20 * time.Second
	texts := hostile(maxText / 4)
	texts["the largest"] = hostile(maxText)["routes"]
	for name, text := range texts {
		start := cpuTime(t)
		_, problems := Parse(Source{Text: text, System: true})
		took := cpuTime(t) - start
		if took > 500*time.Millisecond {
			t.Logf("%-30s %v", name, took)
		}
		if took > most {
			t.Errorf("%s took %v", name, took)
		}
		if len(problems) > maxProblems+1 {
			t.Errorf("%s: %d problems", name, len(problems))
		}
		for _, p := range problems {
			if n := len(p.String()); n > 1000 {
				t.Errorf("%s: a problem of %d bytes: %.200s", name, n, p)
			}
		}
	}
}

// cpuTime is what this process has used of all processors. Nothing else runs in it meanwhile, but for the garbage
// collector, whose work counts.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkParseLargest reads a good document of nearly the size of the largest ConfigMap: as many routes as one may have,
// each with so many matches.
func BenchmarkParseLargest(b *testing.B) {
	const routes, matches = 256, 120
	var doc strings.Builder
	doc.WriteString("kind: Traffic\nservice: catalog\nroutes:\n")
	for i := range routes {
		fmt.Fprintf(&doc, "- name: r%d\n  to: [{service: a}]\n  match:\n", i)
		for j := range matches {
			fmt.Fprintf(&doc, "  - {path: {exact: /%d/%d}}\n", i, j)
		}
	}
	text := doc.String()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if doc, problems := Parse(Source{Text: text}); doc == nil {
			b.Fatal(problems)
		}
	}
}
