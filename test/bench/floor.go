package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// sleeper is what every measured container runs: it costs nothing to keep.
var sleeper = []string{"/bin/sleep", "100000"}

// floor starts pairs of a pause container and one that shares its network and
// IPC, with nothing but the calls that this takes, and returns how long it took
// until the last one was started. The pairs are gone when it returns.
func floor(b *bench, d *harness.Dockerd, pause string, pairs, concurrency int) time.Duration {
	var made sync.Map
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, concurrency)
	began := time.Now()
	for range concurrency {
		wg.Go(func() {
			for int(next.Add(1)) <= pairs {
				if err := startPair(b, d, pause, &made); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	var ids []string
	made.Range(func(id, _ any) bool { ids = append(ids, id.(string)); return true })
	removeAll(b, d, ids)
	select {
	case err := <-errs:
		b.Fatalf("bare Docker: %v", err)
	default:
	}
	return took
}

func startPair(b *bench, d *harness.Dockerd, pause string, made *sync.Map) error {
	sandbox, err := d.Client.ContainerCreate(b.ctx, &container.Config{Image: pause}, &container.HostConfig{IpcMode: container.IPCModeShareable}, nil, nil, "")
	if err != nil {
		return fmt.Errorf("create the pause container: %w", err)
	}
	made.Store(sandbox.ID, true)
	if err := d.Client.ContainerStart(b.ctx, sandbox.ID, container.StartOptions{}); err != nil {
		return fmt.Errorf("start the pause container: %w", err)
	}
	shared := "container:" + sandbox.ID
	c, err := d.Client.ContainerCreate(b.ctx, &container.Config{Image: harness.Busybox, Entrypoint: sleeper},
		&container.HostConfig{NetworkMode: container.NetworkMode(shared), IpcMode: container.IpcMode(shared)}, nil, nil, "")
	if err != nil {
		return fmt.Errorf("create the container: %w", err)
	}
	made.Store(c.ID, true)
	if err := d.Client.ContainerStart(b.ctx, c.ID, container.StartOptions{}); err != nil {
		return fmt.Errorf("start the container: %w", err)
	}
	return nil
}

// removeAll force-removes containers, several at a time; not measured.
func removeAll(b *bench, d *harness.Dockerd, ids []string) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for _, id := range ids {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := d.Client.ContainerRemove(b.ctx, id, container.RemoveOptions{Force: true}); err != nil {
				b.Logf("remove %s: %v", id[:12], err)
			}
		})
	}
	wg.Wait()
}
