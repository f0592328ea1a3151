package envoy

import (
	"bufio"
	"io"
	"slices"
	"strings"

	"github.com/rs/zerolog"
)

// logFormat is level, component and message; spdlog's words, see Envoy's --log-format. With --log-format-escaped a
// message with line breaks stays one line.
const logFormat = "%l %n %v"

// lastLines of Envoy's log are kept for the error that says why it ended.
const lastLines = 10

// copyLog writes the lines of Envoy's log to ours until it ends, and gives the last ones. What it says of calls is written
// as far as calls allows.
func copyLog(log zerolog.Logger, calls *callLog, r io.Reader) []string {
	var kept []string
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" && !calls.take(line) {
			level, component, message := parseLine(line)
			log.WithLevel(level).Str("envoy", component).Msg(message)
			kept = append(kept, message)
			kept = kept[max(0, len(kept)-lastLines):]
		}
		if err != nil { // the pipe ends with the process
			return kept
		}
	}
}

// lastWords are the last lines that Envoy wrote, for people.
func lastWords(kept ...[]string) string {
	all := slices.Concat(kept...)
	if len(all) == 0 {
		return "(it said nothing)"
	}
	return strings.Join(all, "\n")
}

// parseLine takes a line apart. What is not in our format comes from before Envoy knew it, or from a crash.
func parseLine(line string) (level zerolog.Level, component, message string) {
	parts := strings.SplitN(line, " ", 3)
	if level, ok := levelOf(parts[0]); ok && len(parts) == 3 {
		return level, parts[1], strings.NewReplacer(`\'`, `'`, `\"`, `"`).Replace(parts[2])
	}
	return zerolog.WarnLevel, "", line
}

// levelOf maps Envoy's levels. Its critical is an error here: it is Envoy that ends, not us.
func levelOf(word string) (zerolog.Level, bool) {
	switch word {
	case "trace":
		return zerolog.TraceLevel, true
	case "debug":
		return zerolog.DebugLevel, true
	case "info":
		return zerolog.InfoLevel, true
	case "warning":
		return zerolog.WarnLevel, true
	case "error", "critical":
		return zerolog.ErrorLevel, true
	}
	return zerolog.NoLevel, false
}
