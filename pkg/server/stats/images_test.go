package stats

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A runtime that is busy with its images keeps nobody from the rest of a page.
func TestASlowRuntimeDelaysAPageByLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var takes atomic.Int64
		var asked atomic.Int64
		var fails atomic.Bool
		i := newImageInfo(func(ctx context.Context) (*cri.ImageFsInfoResponse, error) {
			n := asked.Add(1)
			select {
			case <-time.After(time.Duration(takes.Load())):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if fails.Load() {
				return nil, errors.New("it is busy")
			}
			return &cri.ImageFsInfoResponse{ImageFilesystems: []*cri.FilesystemUsage{{UsedBytes: number(uint64(n))}}}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { i.run(ctx); close(ended) }()
		defer func() { cancel(); <-ended }()
		look := func(what string, want uint64, within time.Duration) {
			t.Helper()
			began := time.Now()
			var got uint64
			if r := i.get(ctx); r != nil {
				got = r.ImageFilesystems[0].UsedBytes.Value
			}
			if d := time.Since(began); got != want || d != within {
				t.Errorf("%s: answer %d after %v; want %d after %v", what, got, d, want, within)
			}
		}
		takes.Store(int64(time.Minute))
		look("none yet", 0, imagePatience)
		look("none yet, and it is asked once", 0, imagePatience)
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times at once", n)
		}
		time.Sleep(time.Minute)
		takes.Store(int64(100 * time.Millisecond))
		time.Sleep(time.Minute) // what was asked for again meanwhile has ended
		look("quick", 3, 100*time.Millisecond)
		look("the same, as it is not old", 3, 0)
		takes.Store(int64(time.Hour))
		time.Sleep(maxAge)
		look("slow: the last one", 3, imagePatience)
		time.Sleep(imageTimeout)
		look("given up, and asked again: still the last one", 3, imagePatience)
		takes.Store(0)
		fails.Store(true)
		time.Sleep(imageTimeout)
		look("refused: the last one, at once", 3, 0)
	})
}
