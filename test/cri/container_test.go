package cri

import (
	"maps"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
)

var containerCases = []testCase{
	{name: "container from its start to its end", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig()
		id := r.sandbox(config)
		want := containerConfig("c", "exit 3", func(c *cri.ContainerConfig) {
			c.Metadata.Attempt = 4
			c.Annotations = map[string]string{"io.kubernetes.container.hash": "ab"}
		})
		ctr := r.create(id, config, want)
		st := r.status(ctr)
		if st.State != cri.ContainerState_CONTAINER_CREATED || st.CreatedAt <= 0 || st.StartedAt != 0 || st.FinishedAt != 0 {
			t.Errorf("created: %v", st)
		}
		if st.Metadata.Name != "c" || st.Metadata.Attempt != 4 || !maps.Equal(st.Labels, want.Labels) || !maps.Equal(st.Annotations, want.Annotations) || !strings.HasSuffix(st.LogPath, "c/0.log") {
			t.Errorf("created: %v", st)
		}
		r.start(ctr)
		st = r.exited(ctr)
		if st.ExitCode != 3 || st.Reason != "Error" || st.StartedAt < st.CreatedAt || r.isDockershim() && st.FinishedAt < st.StartedAt {
			t.Errorf("ended: %v", st)
		}
		for range 2 {
			if _, err := r.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: ctr}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := r.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: ctr})
		wantCode(t, "status of a removed container", err, codes.NotFound)
	}},
	{name: "success is Completed", run: func(t *testing.T, r *runtime) {
		p := r.pod("true")
		if st := r.exited(p.ctr); st.ExitCode != 0 || st.Reason != "Completed" {
			t.Errorf("status %v", st)
		}
	}},
	{name: "a running container is removed by force", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		if _, err := r.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: p.ctr}); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "a running container is kept from a caller that takes it for one that never ran", only: "dockershim", why: "it is told by gRPC metadata of ours", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		ctx := crimeta.UnlessRunning(t.Context())
		_, err := r.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: p.ctr})
		wantCode(t, "removal of a running container", err, codes.FailedPrecondition)
		if st := r.status(p.ctr); st.State != cri.ContainerState_CONTAINER_RUNNING {
			t.Errorf("it is %v", st.State)
		}
		if _, err := r.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: p.ctr}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: p.ctr}); err != nil {
			t.Errorf("removal of an ended container: %v", err)
		}
	}},
	{name: "a program that does not exist cannot be started", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig()
		id := r.sandbox(config)
		ctr := r.create(id, config, containerConfig("c", "", func(c *cri.ContainerConfig) { c.Command = []string{"/no/such/program"} }))
		if _, err := r.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: ctr}); err == nil || !strings.Contains(err.Error(), "no such") {
			t.Errorf("start: %v", err)
		}
		if st := r.status(ctr); st.State != cri.ContainerState_CONTAINER_EXITED || st.ExitCode != 128 || st.Reason == "" || st.Message == "" || st.FinishedAt == 0 {
			t.Errorf("status %v", st)
		}
		list, err := r.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{Id: ctr}})
		if err != nil || len(list.Containers) != 1 || list.Containers[0].State != cri.ContainerState_CONTAINER_EXITED {
			t.Errorf("list %v, %v", list, err)
		}
	}},
	{name: "SIGTERM, then SIGKILL after the grace period", run: func(t *testing.T, r *runtime) {
		stop := func(id string, grace int64) time.Duration {
			begun := time.Now()
			if _, err := r.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: id, Timeout: grace}); err != nil {
				t.Fatal(err)
			}
			return time.Since(begun)
		}
		polite := r.pod("trap 'exit 7' TERM; while :; do sleep 0.1; done")
		r.handles(polite.ctr, syscall.SIGTERM)
		stop(polite.ctr, 30)
		if st := r.exited(polite.ctr); st.ExitCode != 7 {
			t.Errorf("exit code %d after SIGTERM, want 7", st.ExitCode)
		}
		patient := r.pod("trap 'exit 7' TERM; while :; do sleep 0.1; done")
		r.handles(patient.ctr, syscall.SIGTERM)
		stop(patient.ctr, math.MaxInt32+1)
		if st := r.exited(patient.ctr); st.ExitCode != 7 {
			t.Errorf("exit code %d after SIGTERM with all the time of the world, want 7", st.ExitCode)
		}
		stubborn := r.pod("trap '' TERM; echo ready; while :; do sleep 0.1; done")
		if took := stop(stubborn.ctr, 1); took < time.Second {
			t.Errorf("killed after %v, before its grace period was over", took)
		}
		if st := r.exited(stubborn.ctr); st.ExitCode != 137 {
			t.Errorf("exit code %d after SIGKILL, want 137", st.ExitCode)
		}
	}},
	{name: "a shorter grace period shortens the first", run: func(t *testing.T, r *runtime) {
		p := r.pod("trap '' TERM; while :; do sleep 0.1; done")
		first := make(chan error, 1)
		go func() {
			_, err := r.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: p.ctr, Timeout: 600})
			first <- err
		}()
		if _, err := r.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: p.ctr, Timeout: 1}); err != nil {
			t.Fatal(err)
		}
		if err := <-first; err != nil {
			t.Errorf("the first stop: %v", err)
		}
	}},
	{name: "the stop signal is the container's own", only: "dockershim", why: "CRI's stop_signal is newer than containerd 1.6", run: func(t *testing.T, r *runtime) {
		p := r.pod("trap 'exit 9' USR1; while :; do sleep 0.1; done", func(c *cri.ContainerConfig) { c.StopSignal = cri.Signal_SIGNAL_SIGUSR1 })
		r.handles(p.ctr, syscall.SIGUSR1)
		if st := r.status(p.ctr); st.StopSignal != cri.Signal_SIGNAL_SIGUSR1 {
			t.Errorf("stop signal %v", st.StopSignal)
		}
		if _, err := r.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: p.ctr, Timeout: 30}); err != nil {
			t.Fatal(err)
		}
		if st := r.exited(p.ctr); st.ExitCode != 9 {
			t.Errorf("exit code %d, want 9", st.ExitCode)
		}
	}},
	{name: "command, arguments, environment and directory", run: func(t *testing.T, r *runtime) {
		got := r.output(`echo "$0 $1 $A $(pwd)"`, func(c *cri.ContainerConfig) {
			c.Args = []string{"zero", "one two"}
			c.Envs = []*cri.KeyValue{{Key: "A", Value: []byte("x=y z")}}
			c.WorkingDir = "/tmp"
		})
		if want := "zero one two x=y z /tmp"; got != want {
			t.Errorf("said %q, want %q", got, want)
		}
	}},
	{name: "a second container of the same name and attempt is refused while the first runs", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		_, err := r.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: p.id, Config: containerConfig("c", forever), SandboxConfig: p.sandbox})
		if err == nil {
			t.Fatal("no error")
		}
		if r.isDockershim() {
			wantCode(t, "create", err, codes.AlreadyExists)
		}
	}},
	{name: "the leftover of an interrupted creation is replaced", only: "dockershim", why: "containerd forgets such a creation with its process", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig()
		id := r.sandbox(config)
		first := r.create(id, config, containerConfig("c", forever))
		second := r.create(id, config, containerConfig("c", forever))
		if first == second {
			t.Error("the same container was returned")
		}
		_, err := r.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: first})
		wantCode(t, "status of the leftover", err, codes.NotFound)
		r.start(second)
	}},
	{name: "started twice", only: "dockershim", why: "containerd 1.6 refuses it", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		r.start(p.ctr)
		done := r.pod("true")
		r.exited(done.ctr)
		_, err := r.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: done.ctr})
		wantCode(t, "start of a container that has ended", err, codes.FailedPrecondition)
	}},
	{name: "lists in pieces", only: "dockershim", why: "streamed lists are newer than containerd 1.6", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		s, err := r.StreamContainers(t.Context(), &cri.StreamContainersRequest{Filter: &cri.ContainerFilter{Id: p.ctr}})
		if err != nil {
			t.Fatal(err)
		}
		part, err := s.Recv()
		if err != nil || len(part.Containers) != 1 {
			t.Errorf("containers %v, %v", part, err)
		}
		b, err := r.StreamPodSandboxes(t.Context(), &cri.StreamPodSandboxesRequest{Filter: &cri.PodSandboxFilter{Id: p.id}})
		if err != nil {
			t.Fatal(err)
		}
		if part, err := b.Recv(); err != nil || len(part.PodSandboxes) != 1 {
			t.Errorf("sandboxes %v, %v", part, err)
		}
	}},
}
