package policy

import "strings"

// Nearest gives the one of names that a person most likely meant by s, or "" if none is close; for other things that
// people write.
func Nearest(s string, names []string) string { return nearest(s, names) }

// nearest gives the one of names that a person most likely meant by s, or "" if none is close.
func nearest(s string, names []string) string {
	if len(s) > 64 {
		return ""
	}
	best, least := "", max(1, (len(s)+1)/3)+1
	for _, n := range names {
		if d := distance(strings.ToLower(s), strings.ToLower(n)); d < least && d < len(n) {
			best, least = n, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that turn a into b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(replace, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// meant is the hint for a wrong word among those that are good: the nearest first, or all of them.
func meant(s string, words []string) string {
	if n := nearest(s, words); n != "" {
		return "did you mean " + n + "?"
	}
	return "write " + either(words)
}

// either writes words as a choice: a, b or c.
func either(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
