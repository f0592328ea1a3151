package keep

import "context"

// stored is what was found, with versions by which a write says what it is based on.
type stored struct {
	ca           []byte // nil: there is none
	caVersion    string
	trust        trust // no fingerprint: there is none
	trustVersion string
}

// store is a place for a CA.
type store interface {
	// read reads the bundle before the CA: the CA is written first, so a bundle without one means that it was deleted.
	read(ctx context.Context) (stored, error)
	// writeCA and writeTrust replace what was read, and fail with errChanged if that is not there any more.
	writeCA(ctx context.Context, was stored, text []byte) error
	writeTrust(ctx context.Context, was stored, t trust) error
	// forgetTrust removes the bundle.
	forgetTrust(ctx context.Context, was stored) error
	// copyTrust brings the bundle to where sidecars read it, in these namespaces, and says where it failed.
	copyTrust(ctx context.Context, t trust, namespaces []string) map[string]error
	// lead runs work while this process is the one writer, again and again until ctx ends.
	lead(ctx context.Context, work func(ctx context.Context)) error
	// holds says whether nobody else can be the writer while work runs: a process that stood still for a while works on
	// before it learns that its time is over.
	holds() bool
	// alone says that no other process reads what is stored.
	alone() bool

	caName() string
	trustName() string
}
