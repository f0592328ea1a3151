package operator

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// OwnFolder makes a folder in which nobody else can put another socket in the place of ours. One that is there already
// must be ours or root's, and others may write to it only as they may to the system's temporary folder.
func OwnFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return private(dir)
}

func private(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && !trusted(s.Uid, os.Getuid()) {
		return fmt.Errorf("%s belongs to user %d, who could put another socket there", dir, s.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("others may write to %s and put another socket there; chmod go-w it", dir)
	}
	return nil
}

// trusted says whether a user may be taken for whoever runs the control plane: ourselves, or root.
func trusted(uid uint32, self int) bool { return uid == 0 || int(uid) == self }

// dial connects to a socket that only we or root can have made. Nothing is said before that is known.
func (c Client) dial(ctx context.Context) (net.Conn, error) {
	if err := private(filepath.Dir(c.Socket)); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return nil, err
	}
	if err := servedBy(conn.(*net.UnixConn), os.Getuid()); err != nil {
		_ = conn.Close() // unused
		return nil, err
	}
	return conn, nil
}

// servedBy fails if a socket was made by another user than self or root (unix(7), SO_PEERCRED).
func servedBy(conn *net.UnixConn, self int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("ask who answers: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("ask who answers: %w", err)
	}
	if credErr != nil {
		return fmt.Errorf("ask who answers: %w", credErr)
	}
	if !trusted(cred.Uid, self) {
		return fmt.Errorf("user %d answers there, who is neither you nor root", cred.Uid)
	}
	return nil
}
