// Package examples carries the files of the demo inside the binary, so that it runs from anywhere.
package examples

import "embed"

// Demo is the folder demo.
//
//go:embed demo/*.yaml
var Demo embed.FS
