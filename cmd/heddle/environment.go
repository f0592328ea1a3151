package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// fromEnvironment sets every flag that was not given on the command line from its variable: HEDDLE_LOG_LEVEL for
// --log-level.
func fromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "HEDDLE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if !ok || f.Changed {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
		}
	})
	return errors.Join(errs...)
}

// checked is a flag whose value is looked at when it is set, so that the complaint names the flag, or the variable, that it
// came from.
type checked struct {
	value *string
	check func(string) error
}

// checkedVar makes one, with a default that is good.
func checkedVar(flags *pflag.FlagSet, value *string, name, byDefault, usage string, check func(string) error) {
	*value = byDefault
	flags.Var(checked{value, check}, name, usage)
}

func (c checked) String() string {
	if c.value == nil { // pflag asks a zero value, to know whether the default is one
		return ""
	}
	return *c.value
}

func (checked) Type() string { return "string" }

func (c checked) Set(s string) error {
	if err := c.check(s); err != nil {
		return err
	}
	*c.value = s
	return nil
}

// oneOf checks that a value is one of a few.
func oneOf(values ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(values, s) {
			return nil
		}
		last := len(values) - 1
		return fmt.Errorf("want %s or %s", strings.Join(values[:last], ", "), values[last])
	}
}

// addressOrNone checks that a value is an address to listen on, or empty.
func addressOrNone(s string) error {
	if s == "" {
		return nil
	}
	if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
		return errors.New("want HOST:PORT, or nothing")
	}
	return nil
}

// newLogger writes JSON lines, or lines for people.
func newLogger(w io.Writer, level, format string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		return zerolog.Nop(), fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	switch format {
	case "json":
	case "console":
		w = zerolog.ConsoleWriter{Out: w, NoColor: !colourful(w), TimeFormat: time.TimeOnly}
	default:
		return zerolog.Nop(), fmt.Errorf("--log-format %q: want json or console", format)
	}
	return zerolog.New(w).Level(l).With().Timestamp().Logger(), nil
}

// colourful says whether w is a terminal whose user has not asked for plain text (https://no-color.org).
func colourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}
