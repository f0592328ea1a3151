package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// maxRead is the size of the largest file that is read, in bytes: many times what a cluster takes of one.
const maxRead = 64 << 20

// namedFiles gives the file that was named, or those in the folder that was whose names end so. - is standard input.
func namedFiles(name string, endings ...string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	var files []string
	err := filepath.WalkDir(name, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return nil
		case path == name: // whatever it is: a pipe, for example
			files = append(files, path)
			return nil
		case !slices.Contains(endings, filepath.Ext(path)):
			return nil
		}
		info, err := os.Stat(path)
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is no regular file; name it by itself if it is to be read", path)
		}
		files = append(files, path)
		return err
	})
	return files, err
}

// readFile reads a file, or standard input for -. It ends with ctx, whatever it waits for.
func readFile(ctx context.Context, name string, stdin io.Reader) ([]byte, error) {
	type content struct {
		data []byte
		err  error
	}
	got := make(chan content, 1)
	go func() { // where ctx ends first, this ends with the program
		data, err := readBounded(name, stdin)
		got <- content{data, err}
	}()
	select {
	case c := <-got:
		return c.data, c.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
}

func readBounded(name string, stdin io.Reader) ([]byte, error) {
	from := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	data, err := io.ReadAll(io.LimitReader(from, maxRead+1))
	if err == nil && len(data) > maxRead {
		err = fmt.Errorf("%s has more than %d MiB; spread it over several files", name, maxRead>>20)
	}
	return data, err
}
