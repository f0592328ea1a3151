package demo

import (
	"strings"
	"testing"
	"time"
)

func TestNewsThatCameTogetherAreAllTold(t *testing.T) {
	var b strings.Builder
	o := &lineOutput{out: &b}
	first, second := time.Unix(100, 0).UTC(), time.Unix(101, 0).UTC()
	s := scene{now: first, heard: heard{news: []news{{first, newsPolicy, "one"}, {first, newsWrong, "two"}}}}
	for range 2 { // nothing is told twice
		if err := o.show(s); err != nil {
			t.Fatal(err)
		}
	}
	s.heard.news = append(s.heard.news, news{second, newsPolicy, "three"}, news{second, newsPolicy, "four"})
	if err := o.show(s); err != nil {
		t.Fatal(err)
	}
	if want := "00:01:40 one\n00:01:40 two\n00:01:41 three\n00:01:41 four\n"; b.String() != want {
		t.Errorf("it says\n%swant\n%s", b.String(), want)
	}
}
