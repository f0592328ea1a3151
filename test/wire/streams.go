package wire

import (
	"bytes"
	"io"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// How a stream ends that is not answered.
const (
	RefusedStream = http2.ErrCodeRefusedStream // nothing was done
	ResetStream   = http2.ErrCodeInternal      // something may have been
)

// Streams is an HTTP/2 application that can end streams without an answer, which net/http cannot be told to.
type Streams struct {
	mu   sync.Mutex
	left int // to end so
	code http2.ErrCode
	seen int
}

// EndFirst ends the next n streams with code, and answers those after them 200. It starts counting anew.
func (s *Streams) EndFirst(n int, code http2.ErrCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.code, s.seen = n, code, 0
}

// Seen is how many streams were begun since then.
func (s *Streams) Seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// next gives the code to end a stream with, if it is to be ended.
func (s *Streams) next() (http2.ErrCode, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
	s.left--
	return s.code, s.left >= 0
}

// Serve is for Speaks.
func (s *Streams) Serve(c net.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	if f.WriteSettings() != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return // the sidecar is gone
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = f.WritePing(true, frame.Data)
			}
		case *http2.HeadersFrame:
			err = s.answer(f, frame.StreamID)
		}
		if err != nil {
			return
		}
	}
}

func (s *Streams) answer(f *http2.Framer, stream uint32) error {
	if code, end := s.next(); end {
		return f.WriteRSTStream(stream, code)
	}
	var block bytes.Buffer
	if err := hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"}); err != nil {
		return err
	}
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
}
