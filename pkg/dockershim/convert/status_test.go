package convert

import (
	"testing"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestContainerStates(t *testing.T) {
	const at, end = "2026-01-02T03:04:05.000000006Z", "2026-01-02T03:05:05Z"
	const never = "0001-01-01T00:00:00Z"
	for name, tc := range map[string]struct {
		docker container.State
		want   *cri.ContainerStatus
	}{
		"created":   {container.State{StartedAt: never, FinishedAt: never}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_CREATED}},
		"running":   {container.State{Running: true, StartedAt: at, FinishedAt: never}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_RUNNING, StartedAt: 1767323045000000006}},
		"completed": {container.State{StartedAt: at, FinishedAt: end}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_EXITED, StartedAt: 1767323045000000006, FinishedAt: 1767323105000000000, Reason: "Completed"}},
		"failed":    {container.State{StartedAt: at, FinishedAt: end, ExitCode: 3}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_EXITED, StartedAt: 1767323045000000006, FinishedAt: 1767323105000000000, Reason: "Error", ExitCode: 3}},
		"oom":       {container.State{StartedAt: at, FinishedAt: end, ExitCode: 137, OOMKilled: true}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_EXITED, StartedAt: 1767323045000000006, FinishedAt: 1767323105000000000, Reason: "OOMKilled", ExitCode: 137}},
		"could not start": {container.State{StartedAt: never, FinishedAt: never, ExitCode: 127, Error: "no such file"},
			&cri.ContainerStatus{State: cri.ContainerState_CONTAINER_EXITED, StartedAt: 7, FinishedAt: 7, Reason: "ContainerCannotRun", ExitCode: 128, Message: "no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := &cri.ContainerStatus{CreatedAt: 7}
			setState(got, &tc.docker)
			if got.State != tc.want.State || got.StartedAt != tc.want.StartedAt || got.FinishedAt != tc.want.FinishedAt ||
				got.ExitCode != tc.want.ExitCode || got.Reason != tc.want.Reason || got.Message != tc.want.Message {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
