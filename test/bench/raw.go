package main

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// rawCodec passes bytes as they are, so that neither the floor nor the fleet spends time on protobufs.
type rawCodec struct{}

// raw is a message as bytes. What is received is valid only if kept is set; else it is not even copied.
type raw struct {
	bytes []byte
	kept  bool
}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*raw)
	if !ok {
		return nil, fmt.Errorf("raw codec: cannot send a %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(m.bytes)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*raw)
	if !ok {
		return fmt.Errorf("raw codec: cannot receive a %T", v)
	}
	if m.kept {
		m.bytes = data.Materialize()
	}
	return nil
}
