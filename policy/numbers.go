package policy

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time as Go writes it, such as 500ms, 2s or 1m30s; whole milliseconds.
type Duration time.Duration

// Percent is a share from 0 to 100; fractions are fine.
type Percent float64

// Port is a TCP port.
type Port uint16

// StatusRange is HTTP statuses from First to Last, both included.
type StatusRange struct{ First, Last uint32 }

// String writes the duration as a person would: 5m, where Go writes 5m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (Duration) form() form {
	return form{name: "duration", pattern: `^([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)([0-9.]+(ns|us|µs|ms|s|m|h))*$|^0$`}
}

func (d *Duration) setText(s string) *flaw {
	t, err := time.ParseDuration(s)
	switch {
	case err != nil && isNumber(s):
		return flawf(CodeDuration, fmt.Sprintf("write %ss or %sms", clip(s), clip(s)), "%q has no unit", clip(s))
	case err != nil && goDuration.MatchString(s): // ParseDuration has no other reason then
		return flawf(CodeRange, "write at most 2562047h", "%s is out of range", clip(s))
	case err != nil:
		return flawf(CodeDuration, "write a duration such as 500ms, 2s or 1m30s", "%q is not a duration", clip(s))
	case t < 0:
		return flawf(CodeDuration, "write one of 0s or more", "%q is negative", clip(s))
	case t%time.Millisecond != 0 || partOfNanosecond(s):
		return flawf(CodeDuration, "proxies count milliseconds", "%q is not a whole number of milliseconds", clip(s))
	}
	*d = Duration(t)
	return nil
}

var (
	// goDuration matches what Go reads as a duration, however long it is.
	goDuration = regexp.MustCompile(`^-?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+$`)
	// fraction matches what follows the point in each part of a duration, without its last zeros, and its unit.
	fraction = regexp.MustCompile(`\.([0-9]*?)0*(ns|us|µs|μs|ms|s|m|h)`)
)

// partOfNanosecond says whether a duration has digits that count less than a nanosecond: Go drops them, and 0.1ns would be 0.
func partOfNanosecond(s string) bool {
	digits := map[string]int{"ns": 0, "us": 3, "µs": 3, "μs": 3, "ms": 6}
	for _, m := range fraction.FindAllStringSubmatch(s, -1) {
		most, small := digits[m[2]]
		if !small {
			most = 9
		}
		if len(m[1]) > most {
			return true
		}
	}
	return false
}

func (Percent) form() form { return form{name: "percent", number: true} }

func (p *Percent) setText(s string) *flaw {
	if bare, ok := strings.CutSuffix(s, "%"); ok {
		return flawf(CodeNumber, "write "+clip(strings.TrimSpace(bare)), "%q has a percent sign", clip(s))
	}
	f, flaw := decimal(s)
	if flaw == nil && f > 100 {
		return flawf(CodeRange, "write 0 to 100", "%s is out of range", clip(s))
	}
	if _, digits, _ := strings.Cut(s, "."); flaw == nil && len(strings.TrimRight(digits, "0")) > 4 {
		return flawf(CodeNumber, "proxies count ten-thousandths of a percent", "%s has too many digits", clip(s))
	}
	*p = Percent(f)
	return flaw
}

func (Port) form() form { return form{name: "port", number: true} }

func (p *Port) setText(s string) *flaw {
	n, flaw := whole(s, 16)
	if flaw == nil && n == 0 || flaw != nil && flaw.code == CodeRange {
		return flawf(CodeRange, "write 1 to 65535", "%s is out of range", clip(s))
	}
	*p = Port(n)
	return flaw
}

func (StatusRange) form() form {
	return form{name: "status or range", pattern: `^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$`, number: true}
}

func (r *StatusRange) setText(s string) *flaw {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, flawA := status(first, 100)
	b, flawB := status(last, 100)
	if flawA != nil || flawB != nil {
		return flawf(CodeStatus, "write a status such as 200 or a range such as 200-299", "%q is not a range of HTTP statuses", clip(s))
	}
	if a > b {
		return flawf(CodeOrder, fmt.Sprintf("write %d-%d", b, a), "%q ends before it begins", clip(s))
	}
	*r = StatusRange{a, b}
	return nil
}

func (RedirectStatus) form() form {
	return form{name: "301, 302, 303, 307 or 308", pattern: "^(301|302|303|307|308)$", number: true}
}

func (r *RedirectStatus) setText(s string) *flaw {
	switch s {
	case "301", "302", "303", "307", "308":
		n, _ := strconv.Atoi(s)
		*r = RedirectStatus(n)
		return nil
	}
	return flawf(CodeStatus, "write 301, 302, 303, 307 or 308", "%q does not redirect", clip(s))
}

// status reads an HTTP status from least to 599.
func status(s string, least uint32) (uint32, *flaw) {
	n, flaw := whole(s, 32)
	if flaw != nil || len(s) != 3 || n < uint64(least) || n > 599 {
		return 0, flawf(CodeStatus, fmt.Sprintf("write %d to 599", least), "%q is not an HTTP status that is good here", clip(s))
	}
	return uint32(n), nil
}

// whole reads a whole number in decimal digits, so that 010, 0x10 and 1_000 cannot mean two things.
func whole(s string, bits int) (uint64, *flaw) {
	n, err := strconv.ParseUint(s, 10, bits)
	greatest := uint64(math.MaxUint64) >> (64 - bits)
	switch {
	case isNumber(s) && (err != nil || strings.HasPrefix(s, "-")) && !strings.Contains(s, "."):
		return 0, flawf(CodeRange, fmt.Sprintf("write 0 to %d", greatest), "%s is out of range", clip(s))
	case err != nil || len(s) > 1 && s[0] == '0':
		return 0, flawf(CodeNumber, "write decimal digits, such as 10", "%q is not a whole number", clip(s))
	}
	return n, nil
}

// decimal reads a number of 0 or more in decimal digits.
func decimal(s string) (float64, *flaw) {
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case !isNumber(s) || err != nil:
		return 0, flawf(CodeNumber, "write decimal digits, such as 10 or 2.5", "%q is not a number", clip(s))
	case math.Signbit(f):
		return 0, flawf(CodeRange, "write 0 or more", "%s is negative", clip(s))
	}
	return f, nil
}

// isNumber says whether s is an optional minus, digits, and optionally a point and digits.
func isNumber(s string) bool {
	before, after, point := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	return digits(before) && (!point || digits(after))
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
