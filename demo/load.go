package demo

import (
	"context"
	"sync"
	"time"
)

const (
	defaultRate = 50 // pages a second
	reportEvery = 3 * time.Second
	maxShoppers = 64 // at once; a slow shop gets fewer requests, not more
)

// load keeps shoppers coming until ctx is done, and returns when the last of them has left.
func load(ctx context.Context, shoppers *application, rate int) {
	pages := time.NewTicker(time.Second / time.Duration(rate))
	defer pages.Stop()
	reports := time.NewTicker(reportEvery)
	defer reports.Stop()
	inside := make(chan struct{}, maxShoppers)
	var wg sync.WaitGroup
	defer wg.Wait()
	// Who is inside finishes: a request that is given up is one that the sidecars and the ledger count differently.
	visit := context.WithoutCancel(ctx)
	for {
		path := "/"
		select {
		case <-ctx.Done():
			return
		case <-pages.C:
		case <-reports.C:
			path = "/report"
		}
		select {
		case inside <- struct{}{}:
			wg.Go(func() {
				// Its outcome is in the ledger and in the sidecar's numbers.
				_, _ = shoppers.get(visit, "frontend", path)
				<-inside
			})
		default:
		}
	}
}
