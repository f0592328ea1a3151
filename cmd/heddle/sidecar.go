package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
)

// sidecarProgram is the agent, a program of its own so that it stays small in every pod.
const sidecarProgram = "heddle-sidecar"

func sidecarCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sidecar [flags of heddle-sidecar]",
		Short: "Run the agent beside an Envoy (heddle-sidecar)",
		Long: `Run heddle-sidecar, the agent beside an Envoy: it keeps the pod's identity and runs Envoy. It is a program of its own,
which is looked for beside this one and then on PATH; all arguments are its own: heddle sidecar --help lists them.`,
		Example: `  heddle serve --manifests examples/demo
  heddle sidecar --join /run/user/1000/heddle/operator.sock --pod shop/frontend-1`,
		DisableFlagParsing: true,
		RunE:               runSidecar,
	}
}

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [flags of heddle-sidecar init]",
		Short: "Redirect the traffic of a pod to its Envoy, inside the pod (heddle-sidecar init)",
		Long: `Redirect the TCP traffic of the pod that this runs in to its Envoy: what a pod's init container does. It is heddle-sidecar
init, looked for as heddle sidecar looks for it; all arguments are its own: heddle init --help lists them.`,
		Example:            `  heddle init --skip-outbound-ports 3306 --print`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			return runSidecar(c, slices.Concat([]string{"init"}, args))
		},
	}
}

// runSidecar becomes heddle-sidecar.
func runSidecar(_ *cobra.Command, args []string) error {
	path, err := findSidecar(os.Executable, exec.LookPath)
	if err != nil {
		return err
	}
	err = syscall.Exec(path, slices.Concat([]string{path}, args), os.Environ())
	return fmt.Errorf("run %s: %w", path, err) // it came back
}

// findSidecar looks beside this program, which is where it is built and installed, and then on PATH.
func findSidecar(executable func() (string, error), look func(string) (string, error)) (string, error) {
	own, err := executable()
	if err == nil {
		own, err = filepath.EvalSymlinks(own) // kubectl-heddle may be a link
	}
	if err != nil {
		return "", fmt.Errorf("look for %s beside this program: %w", sidecarProgram, err)
	}
	beside := filepath.Join(filepath.Dir(own), sidecarProgram)
	switch _, err := os.Stat(beside); {
	case err == nil:
		return beside, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("look for %s: %w", sidecarProgram, err)
	}
	path, err := look(sidecarProgram)
	if err != nil {
		return "", fmt.Errorf("there is no %s in %s, nor on PATH: make build builds it beside heddle, "+
			"go install github.com/heddle-mesh/heddle/cmd/heddle-sidecar@latest on its own", sidecarProgram, filepath.Dir(own))
	}
	return path, nil
}
