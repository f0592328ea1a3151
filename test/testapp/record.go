package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// record gives the frames that pass the interfaces of its pod between two hosts, one after the other, as they are. In a pod
// with hostNetwork those are the node's, and so what travels between its pods. It says "recording" on a line of its own when
// it has begun, and ends with the first frame, of any host, that holds what it is told.
func record(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("record", flag.ContinueOnError)
	hosts := flags.String("between", "", "whose frames: two IP addresses, a comma in between")
	until := flags.String("until", "", "text that ends the recording")
	lasts := flags.Duration("for", time.Minute, "how long the text may take; without it this fails")
	if err := flags.Parse(args); err != nil {
		return err
	}
	one, other, _ := strings.Cut(*hosts, ",")
	a, errA := netip.ParseAddr(one)
	b, errB := netip.ParseAddr(other)
	if errA != nil || errB != nil || *until == "" {
		return fmt.Errorf("record --between=%q --until=%q: want two IP addresses and a text", *hosts, *until)
	}
	ctx, cancel := context.WithTimeout(ctx, *lasts)
	defer cancel()
	const all = unix.ETH_P_ALL
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, all)) // htons
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(network))
	if err != nil {
		return fmt.Errorf("listen on all interfaces, which takes CAP_NET_RAW: %w", err)
	}
	defer unix.Close(fd)
	// A read must notice that it is to end.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
		return fmt.Errorf("set a time limit for reading: %w", err)
	}
	fmt.Fprintln(out, "recording")
	return frames(ctx, fd, [2][]byte{a.AsSlice(), b.AsSlice()}, *until, out)
}

func frames(ctx context.Context, fd int, hosts [2][]byte, until string, out io.Writer) error {
	frame := make([]byte, 1<<17)
	for ctx.Err() == nil {
		n, err := unix.Read(fd, frame)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read a frame: %w", err)
		}
		if bytes.Contains(frame[:n], []byte(until)) {
			return nil
		}
		// Ethernet, and then the longest header that has the addresses.
		head := frame[:min(n, 14+40)]
		if !bytes.Contains(head, hosts[0]) || !bytes.Contains(head, hosts[1]) {
			continue
		}
		if _, err := out.Write(frame[:n]); err != nil {
			return err
		}
	}
	return fmt.Errorf("nothing that passed held %q: %w", until, context.Cause(ctx))
}
