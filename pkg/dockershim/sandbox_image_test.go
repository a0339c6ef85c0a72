package dockershim

import (
	"os"
	"sync"
	"testing"
)

func TestTheSandboxImageIsNotedByManyAtOnce(t *testing.T) {
	s := &Server{cfg: Config{StateDir: t.TempDir()}}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := s.noteSandboxImage(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(s.sandboxImageFile()); err != nil {
		t.Error(err)
	}
}
