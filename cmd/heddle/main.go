// Command heddle is the service mesh: its control plane, and the tools to look at it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/buildinfo"
)

func main() {
	os.Exit(run(arguments(os.Args), os.Stdin, os.Stdout, os.Stderr))
}

// arguments are those of a command line. A link named kubectl-heddle is this program as a plugin of kubectl, which is no
// different; one named kubectl_complete-heddle is what kubectl asks for completions.
func arguments(argv []string) []string {
	if strings.TrimSuffix(filepath.Base(argv[0]), ".exe") == "kubectl_complete-heddle" {
		return append([]string{cobra.ShellCompRequestCmd}, argv[1:]...)
	}
	return argv[1:]
}

// errSilent fails a command whose output has said everything already.
var errSilent = errors.New("failed")

// run is the program with its surroundings as arguments; it returns the exit code. The first SIGINT, SIGTERM or SIGHUP
// (the terminal was closed) ends the command gracefully, the second at once.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as it is under nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	context.AfterFunc(ctx, stop)
	// Who reads our output may leave early, as head does. A write fails then and the command ends in order; the signal
	// would end it at once and leave its files behind.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errSilent) && !errors.Is(err, syscall.EPIPE) {
			fmt.Fprintln(stderr, "heddle:", withHint(err))
		}
		return 1
	}
	return 0
}

// whichFlags says where flags are listed.
func whichFlags(c *cobra.Command, err error) error {
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		return fmt.Errorf("%w; %s --help lists those that there are", err, c.CommandPath())
	}
	return err
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "heddle",
		Short:         "An Envoy service mesh for Kubernetes",
		Long:          "Heddle is an Envoy service mesh for Kubernetes: it watches Services and policy, and configures sidecars.\nTry it without a cluster: heddle demo",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       buildinfo.Get().Version,
	}
	root.SetFlagErrorFunc(whichFlags)
	root.AddCommand(installCommand(), upgradeCommand(), uninstallCommand(), checkCommand(), proxyCommand(), identityCommand(), policyCommand(),
		injectCommand(), uninjectCommand(), serveCommand(), sidecarCommand(), initCommand(), demoCommand(), versionCommand())
	return root
}
