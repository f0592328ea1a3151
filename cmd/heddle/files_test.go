package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestWhoWaitsForInputEndsWithTheFirstSignal(t *testing.T) {
	silent, end := io.Pipe()
	defer end.Close()
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errors.New("terminated signal received"))
	if _, err := readFile(ctx, "-", silent); err == nil || !strings.Contains(err.Error(), "terminated signal received") {
		t.Errorf("it ends with %v", err)
	}
}
