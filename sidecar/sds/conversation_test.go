package sds

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"
)

// TestConversations holds the rules of both protocols, each as a conversation. What is published is name@version; what is
// sent is name@version#nonce.
func TestConversations(t *testing.T) {
	for name, script := range map[string]string{
		"A secret that is there is sent once.": `
			set default@1 bundle@1
			ask default           -> default@1#1
			ack 1 default         ->`,
		"Who asks before it is there waits.": `
			ask bundle            ->
			set bundle@1          -> bundle@1#1`,
		"Each secret has a response of its own.": `
			set default@1 bundle@1
			ask bundle default    -> bundle@1#1 default@1#2`,
		"A new version waits for the answer to the one before, and the newest is sent.": `
			set default@1
			ask default           -> default@1#1
			set default@2         ->
			set default@3         ->
			ack 1 default         -> default@3#2`,
		"A refused version is not sent again, and the next one is.": `
			set default@1
			ask default           -> default@1#1
			nack 1 default        ->
			set default@1         ->
			set default@2         -> default@2#2`,
		"A refused secret holds up no other.": `
			set default@1 bundle@1
			ask default bundle    -> bundle@1#1 default@1#2
			nack 2 default bundle ->
			ack 1 default bundle  ->
			set bundle@2          -> bundle@2#3`,
		"A name that does not exist is not answered.": `
			set default@1
			ask other default     -> default@1#1`,
		"An old answer says nothing about what is wanted now.": `
			set default@1 bundle@1
			ask default           -> default@1#1
			ask default bundle    -> bundle@1#2
			ack 1 default         ->
			set bundle@2          ->
			ack 2 default bundle  -> bundle@2#3`,
		"What is no longer asked for is no longer sent.": `
			set default@1 bundle@1
			ask default bundle    -> bundle@1#1 default@1#2
			ack 1 default bundle  ->
			ack 2 default         ->
			set bundle@2 default@2 -> default@2#3`,
		"Delta: what an earlier stream brought is not sent again.": `
			set default@1 bundle@2
			hold bundle@2 default@0 -> default@1#1`,
		"Delta: who subscribes again has lost it.": `
			set default@1
			sub default           -> default@1#1
			dack 1                ->
			sub default           -> default@1#2`,
		"Delta: who unsubscribes gets no more.": `
			set default@1
			sub default           -> default@1#1
			unsub default         ->
			dack 1                ->
			set default@2         ->`,
	} {
		t.Run(name, func(t *testing.T) {
			c, secrets := newConversation([]string{"default", "bundle"}), map[string]secret{}
			for line := range strings.Lines(strings.TrimSpace(script)) {
				said, want, _ := strings.Cut(strings.TrimSpace(line), "->")
				words := strings.Fields(said)
				if words[0] == "set" {
					for _, w := range words[1:] {
						name, version, _ := strings.Cut(w, "@")
						secrets[name] = secret{version, &anypb.Any{}}
					}
				} else {
					c.hear(parse(t, words))
				}
				var got []string
				for _, d := range c.due(secrets) {
					got = append(got, fmt.Sprintf("%s@%s#%s", d.name, d.secret.version, d.nonce))
				}
				if strings.Join(got, " ") != strings.TrimSpace(want) {
					t.Fatalf("after %q it sends %q, want %q", strings.TrimSpace(said), got, want)
				}
			}
		})
	}
}

func parse(t *testing.T, words []string) question {
	t.Helper()
	rest := words[1:]
	switch words[0] {
	case "ask":
		return question{all: rest}
	case "ack":
		return question{nonce: rest[0], all: rest[1:]}
	case "nack":
		return question{nonce: rest[0], all: rest[1:], refusal: new(string)}
	case "sub":
		return question{subscribe: rest}
	case "unsub":
		return question{unsubscribe: rest}
	case "dack":
		return question{nonce: rest[0]}
	case "hold":
		q := question{held: map[string]string{}}
		for _, w := range rest {
			name, version, _ := strings.Cut(w, "@")
			q.subscribe, q.held[name] = append(q.subscribe, name), version
		}
		return q
	}
	t.Fatalf("unknown verb %q", words[0])
	return question{}
}
