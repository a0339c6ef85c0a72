package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestDeadlineOfARunningPodIsLowered(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "sleep 1000", quick, func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](1000) }))
	n.AwaitReady(ns, "p")
	n.MustKubectl(ns, "patch", "pod", "p", "-p", `{"spec":{"activeDeadlineSeconds":8}}`)
	p := n.Await(ns, "p", "has failed", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed })
	end := harness.Status(p, "c").State.Terminated
	if p.Status.Reason != "DeadlineExceeded" || end == nil || end.FinishedAt.Before(&metav1.Time{Time: p.Status.StartTime.Add(8 * time.Second)}) {
		t.Errorf("reason %q, started %v, ended %+v", p.Status.Reason, p.Status.StartTime, end)
	}
}

func TestKubectlDebug(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "sleep 1000", quick))
	n.AwaitReady(ns, "p")
	n.MustKubectl(ns, "debug", "p", "--image="+harness.Busybox, "--target=c", "--container=debug", "--", "sh", "-c", "readlink /proc/self/ns/pid; exit 3")
	p := n.Await(ns, "p", "has run its ephemeral container", func(p *v1.Pod) bool {
		s := p.Status.EphemeralContainerStatuses
		return len(s) == 1 && s[0].State.Terminated != nil
	})
	s := p.Status.EphemeralContainerStatuses[0]
	if s.State.Terminated.ExitCode != 3 || s.RestartCount != 0 || !harness.Ready(p) {
		t.Errorf("%+v in a pod that is %s", s, p.Status.Phase)
	}
	info, err := n.Docker.Client.ContainerInspect(t.Context(), harness.ID(harness.Status(p, "c").ContainerID))
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", info.State.Pid))
	if err != nil {
		t.Fatal(err)
	}
	n.AwaitLog(ns, "p", link+"\n", "-c", "debug") // it ran in the namespace of the container that it debugs

	// It is not run again, even when nothing of it is left and another agent comes.
	n.Kill()
	id := strings.TrimPrefix(s.ContainerID, "docker://")
	if err := n.Docker.Client.ContainerRemove(t.Context(), id, container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.MustKubectl(ns, "label", "pod", "p", "looked=at")
	harness.Never(t, "the ephemeral container runs once", 3*time.Second, func() error {
		running, err := n.Running("p")
		if err != nil {
			return err
		}
		if _, there := running["c"]; !there {
			return fmt.Errorf("the pod does not run: %v", running)
		}
		if _, again := running["debug"]; again {
			return fmt.Errorf("it runs again")
		}
		return nil
	}, n.Explain)
}
