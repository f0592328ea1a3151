package admission

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
)

func TestOnlySoManyReviewsAreUnderWayAndTheNextOnesWaitAsLongAsTheyAreAskedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		entered := make(chan struct{}, 2*maxReviews)
		h := NewHandler(Options{
			Injector: injectorFunc(func(*corev1.Pod, Place) (Injection, error) {
				entered <- struct{}{}
				<-release
				return Injection{}, nil
			}),
			Namespaces: labels{"shop": {}}, Log: zerolog.Nop(),
		})
		body := review(t, "pods", "Pod", &corev1.Pod{})
		answers := make(chan int, 2*maxReviews)
		ask := func(query string) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, InjectPath+query, bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			answers <- w.Code
		}
		for range maxReviews + 1 {
			go ask("")
		}
		synctest.Wait()
		if working := len(entered); working != maxReviews {
			t.Errorf("%d reviews are under way; want %d", working, maxReviews)
		}
		begun := time.Now()
		go ask("?timeout=2s")
		if code, took := <-answers, time.Since(begun); code != http.StatusServiceUnavailable || took != 2*time.Second {
			t.Errorf("one that waits for 2 s was answered %d after %s", code, took)
		}
		close(release)
		for range maxReviews + 1 {
			if code := <-answers; code != http.StatusOK {
				t.Errorf("one whose turn comes is answered %d", code)
			}
		}
	})
}
