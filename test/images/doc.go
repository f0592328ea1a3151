// Package images makes the images that a cluster for tests runs, without a Docker daemon and without a registry: the two
// that Heddle ships, and what the tests put beside them.
//
//	paths, err := images.Build(ctx, images.Options{})
//
// Each is a tar file in the user's cache, of the form that `docker save` writes, so that containerd, docker and kind all
// take it. What has not changed is not made again.
package images
