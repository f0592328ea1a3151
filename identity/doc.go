// Package identity says who is who in the mesh, and proves it.
package identity
