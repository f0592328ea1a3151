// Command ctl brings up a Kubernetes on this machine by hand, with the images of this repository in it:
//
//	go run ./test/cluster/ctl up        a cluster that stays until it is taken down; says its kubeconfig
//	go run ./test/cluster/ctl load      makes the images anew and loads those into it
//	go run ./test/cluster/ctl load x.tar
//	go run ./test/cluster/ctl images    makes the images and says where they are
//	go run ./test/cluster/ctl down
//
// See package cluster for what a cluster consists of.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/heddle-mesh/heddle/test/cluster"
	"github.com/heddle-mesh/heddle/test/images"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{Use: "ctl", Short: "a Kubernetes on this machine, for tests", SilenceUsage: true, SilenceErrors: true}
	name := root.PersistentFlags().String("name", "dev", "which cluster; there may be several")
	only := root.PersistentFlags().StringSlice("images", nil, "which images, as heddle-pause,heddle:next (default all)")
	root.AddCommand(
		&cobra.Command{
			Use: "up", Short: "start a cluster and load the images of this repository", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return up(cmd.Context(), *name, *only) },
		},
		&cobra.Command{
			Use: "load [image.tar ...]", Short: "load images, by default those of this repository, made anew",
			RunE: func(cmd *cobra.Command, tars []string) error { return load(cmd.Context(), *name, *only, tars) },
		},
		&cobra.Command{
			Use: "down", Short: "end a cluster, whatever is left of it, and remove all that it made", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return cluster.Remove(cmd.Context(), *name) },
		},
		&cobra.Command{
			Use: "images", Short: "make the images and say where their tar files are, for another cluster to load", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return makeImages(cmd.Context(), *only) },
		},
		&cobra.Command{
			Use: "packages", Short: "say which Debian packages the machine must have", Args: cobra.NoArgs,
			Run: func(*cobra.Command, []string) { fmt.Println(strings.Join(cluster.HostPackages(), " ")) },
		},
		&cobra.Command{
			Use: "prepare", Short: "build all that a cluster needs, which takes minutes once", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return prepare(cmd.Context(), *only) },
		},
	)
	return root
}

// prepare fails if this machine cannot run a cluster.
func prepare(ctx context.Context, only []string) error {
	if err := cluster.CheckHost(); err != nil {
		return err
	}
	if _, err := kubetest.InstallAll(ctx, kubetest.InstallOptions{Progress: os.Stdout}); err != nil {
		return err
	}
	return makeImages(ctx, only)
}

func makeImages(ctx context.Context, only []string) error {
	tars, err := images.Build(ctx, images.Options{Names: full(only), Progress: os.Stderr})
	if err != nil {
		return err
	}
	for _, tar := range tars {
		fmt.Println(tar)
	}
	return nil
}

func up(ctx context.Context, name string, only []string) error {
	if err := cluster.CheckHost(); err != nil {
		return err
	}
	tars, err := images.Build(ctx, images.Options{Names: full(only), Progress: os.Stdout})
	if err != nil {
		return err
	}
	_, err = cluster.Start(ctx, cluster.Options{Name: name, Images: tars, Progress: os.Stdout, Owner: cluster.Nobody})
	return err
}

func load(ctx context.Context, name string, only, tars []string) error {
	c, err := cluster.Find(ctx, name)
	if err != nil {
		return err
	}
	if len(tars) == 0 {
		if tars, err = images.Build(ctx, images.Options{Names: full(only), Progress: os.Stdout}); err != nil {
			return err
		}
	}
	if err := c.Load(ctx, tars...); err != nil {
		return err
	}
	for _, tar := range tars {
		fmt.Println("loaded", tar)
	}
	return nil
}

// full gives the names of images in full. Those without a tag are tagged test.
func full(short []string) []string {
	var names []string
	for _, name := range short {
		names = append(names, images.Full(name))
	}
	return names
}
