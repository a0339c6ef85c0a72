package cri

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

var loadCases = []testCase{
	{name: "fifty sandboxes at once", run: func(t *testing.T, r *runtime) {
		var wg sync.WaitGroup
		for range 50 {
			config := r.sandboxConfig()
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*harness.Patience)
				defer cancel()
				resp, err := r.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
				if err != nil {
					t.Errorf("run: %v", err)
					return
				}
				if _, err := r.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: resp.PodSandboxId}); err != nil {
					t.Errorf("stop: %v", err)
				}
				if _, err := r.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: resp.PodSandboxId}); err != nil {
					t.Errorf("remove: %v", err)
				}
			})
		}
		wg.Wait()
	}},
	{name: "clients that give up leave nothing behind", only: "dockershim", why: "what is left is counted in Docker", run: func(t *testing.T, r *runtime) {
		own := &runtime{harness.StartShim(t, harness.StartDockerd(t, harness.DockerdConfig{})), t}
		first := own.pod("true") // what is made once stays
		if _, err := own.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: first.id}); err != nil {
			t.Fatal(err)
		}
		before, err := own.Audit()
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 30 {
			config := own.sandboxConfig()
			patience := time.Duration(rand.IntN(400)) * time.Millisecond
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				resp, err := own.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
				if err != nil {
					return // given up, as intended
				}
				created, err := own.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: resp.PodSandboxId, Config: containerConfig("c", forever), SandboxConfig: config})
				if err == nil {
					_, _ = own.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: created.ContainerId})
				}
				if _, err := own.RemovePodSandbox(context.WithoutCancel(ctx), &cri.RemovePodSandboxRequest{PodSandboxId: resp.PodSandboxId}); err != nil {
					t.Errorf("remove: %v", err)
				}
			})
		}
		wg.Wait()
		// Docker itself removes the names of network namespaces once a minute.
		harness.Eventually(t, "nothing is left", 2*harness.Patience, func() error {
			after, err := own.Audit()
			if err == nil {
				err = errors.Join(before.Leaks(after), own.leftovers())
			}
			return err
		})
	}},
	{name: "a runtime that is killed takes up where it was", only: "dockershim", why: "it looks into the dockershim's state", run: func(t *testing.T, r *runtime) {
		own := &runtime{harness.StartShim(t, r.Docker), t}
		p := own.pod(forever)
		before := own.status(p.ctr)
		own.Restart(t)
		if after := own.status(p.ctr); after.State != cri.ContainerState_CONTAINER_RUNNING || after.StartedAt != before.StartedAt {
			t.Errorf("status %v, was %v", after, before)
		}
		// Removed while nobody looked: its checkpoint is removed, too.
		for _, id := range []string{p.ctr, p.id} {
			if err := r.Docker.Client.ContainerRemove(t.Context(), id, container.RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
		}
		own.Restart(t)
		harness.Eventually(t, "nothing is left", harness.Patience, func() error { return own.leftovers() })
	}},
}

// leftovers returns what a dockershim with nothing to do still has.
func (r *runtime) leftovers() error {
	sandboxes, err := r.ListPodSandbox(context.Background(), &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	containers, err := r.ListContainers(context.Background(), &cri.ListContainersRequest{})
	if err != nil {
		return err
	}
	checkpoints, err := os.ReadDir(filepath.Join(r.Shim.StateDir, "sandbox"))
	if err != nil {
		return err
	}
	positions, err := os.ReadDir(filepath.Join(r.Shim.StateDir, "logs"))
	if err != nil {
		return err
	}
	if len(sandboxes.Items)+len(containers.Containers)+len(checkpoints)+len(positions) > 0 {
		return fmt.Errorf("%d sandboxes, %d containers, %d checkpoints, %d log positions", len(sandboxes.Items), len(containers.Containers), len(checkpoints), len(positions))
	}
	return nil
}
