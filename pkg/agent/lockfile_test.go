package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestALockFileIsWaitedForHeldAndGivenUpToWhoOpensIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubelet.lock")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, release, err := lockFile(ctx, path, false)
	if err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, 2*lockFileRetry)
	defer stop()
	if _, _, err := lockFile(short, path, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a lock that is held was had twice: %v", err)
	}
	release()
	contended, release, err := lockFile(ctx, path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	result := make(chan error, 1)
	go func() { result <- contended(ctx) }()
	select {
	case err := <-result:
		t.Fatalf("nobody has opened it, and it said %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := <-result; !errors.Is(err, errContended) {
		t.Fatalf("somebody has opened it, and it said %v", err)
	}
}

func TestAWatchedLockFileEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	contended, release, err := lockFile(ctx, filepath.Join(t.TempDir(), "kubelet.lock"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	cancel()
	if err := contended(ctx); err != nil {
		t.Fatal(err)
	}
}
