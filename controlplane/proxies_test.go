package controlplane

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

// told is a source that says what it is told to say.
type told chan []model.Event

func (s told) Run(ctx context.Context, out func([]model.Event)) error {
	for {
		select {
		case events := <-s:
			out(events)
		case <-ctx.Done():
			return nil
		}
	}
}

func TestASidecarFollowsItsNodeToAnotherZone(t *testing.T) {
	source, door := make(told, 1), newDoor(t)
	p, end := started(t, Options{Source: source, Door: door.Door})
	pod := benchPod(0, 0)
	pod.Node = "n1"
	source <- []model.Event{{Pod: pod}, {Synced: true}}
	wait(t, "the first listing", p.ready.Load)
	open := func() adsStream {
		t.Helper()
		stream := door.ads(peerFor(pod))
		if err := asks(t, stream, pod.Key.String()); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	places := func() (places []model.Location) {
		t.Helper()
		if err := p.call(t.Context(), func() {
			for at := range p.publisher.locations {
				places = append(places, at)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return places
	}
	stream := open()
	source <- []model.Event{{Node: &model.Node{Name: "n1", Zone: "z1"}}}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("its stream goes on, or ended with %v; want it to end without fault", err)
	}
	open()
	if got := places(); len(got) != 2 || !slices.Contains(got, model.Location{Zone: "z1"}) {
		t.Errorf("sidecars are at %+v; want one node in z1", got)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}
