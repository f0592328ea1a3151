package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// limit is how long a request, or a word of a conversation, may take on a machine that does much else.
const limit = 20 * time.Second

// Protocol is what a client speaks.
type Protocol uint8

// Protocols.
const (
	HTTP1 Protocol = iota
	HTTP2          // without TLS of its own
)

// Client is one that keeps its connections.
func Client(p Protocol) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(p == HTTP1)
	protocols.SetUnencryptedHTTP2(p == HTTP2)
	return &http.Client{Transport: &http.Transport{Protocols: &protocols, MaxIdleConnsPerHost: Full}, Timeout: limit}
}

// Get wants the answer of [Serve], at the first try.
func Get(c *http.Client, url string) error {
	var tries atomic.Int64
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{WroteHeaders: func() { tries.Add(1) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK || string(body) != hello:
		return fmt.Errorf("%s: %s %q %s", response.Proto, response.Status, body, response.Header.Get("x-heddle-response-flags"))
	case tries.Load() > 1: // Go repeats a GET by itself when a connection breaks; that is no good service
		return fmt.Errorf("%s: it was sent %d times", response.Proto, tries.Load())
	}
	return nil
}

// Exchange says a number and hears it.
func Exchange(c io.ReadWriter, n uint64) error {
	heard := make(chan error, 1)
	go func() { // it ends with the connection at the latest
		said, got := binary.BigEndian.AppendUint64(nil, n), make([]byte, 8)
		_, err := c.Write(said)
		if err == nil {
			_, err = io.ReadFull(c, got)
		}
		if err == nil && binary.BigEndian.Uint64(got) != n {
			err = fmt.Errorf("heard %x", got)
		}
		heard <- err
	}()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case err := <-heard:
		return err
	case <-late.C:
		return errors.New("no answer")
	}
}

// stream is a request over HTTP/2 that never ends, and its answer.
type stream struct {
	*io.PipeWriter
	answer io.ReadCloser
	client *http.Client
}

func openStream(ctx context.Context, url string) (*stream, error) {
	read, write := io.Pipe()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, read)
	if err != nil {
		return nil, err
	}
	c := Client(HTTP2)
	c.Timeout = 0
	response, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(errors.New(response.Status), response.Body.Close())
	}
	return &stream{write, response.Body, c}, nil
}

func (s *stream) Read(p []byte) (int, error) { return s.answer.Read(p) }

func (s *stream) Close() error {
	err := errors.Join(s.PipeWriter.Close(), s.answer.Close())
	s.client.CloseIdleConnections()
	return err
}
