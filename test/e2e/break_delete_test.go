package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestFinalizersHoldTheObjectOnly deletes pods whose objects others hold on to. Their
// containers end, their status shows that they are over, nothing is requested over
// and over, and no agent starts them again.
func TestFinalizersHoldTheObjectOnly(t *testing.T) {
	n, ns := join(t)
	watchPods(t, n, ns)
	pods := n.Cluster.Client.CoreV1().Pods(ns)
	held := func(p *v1.Pod) { p.Finalizers = []string{"example.com/held"} }
	made := n.Create(ns, harness.Pod("p", "", held))
	t.Cleanup(func() { // or the namespace stays
		_, _ = pods.Patch(t.Context(), "p", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	})
	n.AwaitReady(ns, "p")
	if err := pods.Delete(t.Context(), "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	over := func(p *v1.Pod) bool { return harness.Status(p, "c").State.Terminated != nil }
	n.Await(ns, "p", "is over", over)
	noneLeftRunning := func() {
		harness.Eventually(t, "nothing of it runs", harness.Patience, func() error {
			running, err := n.Running("p")
			if err == nil && len(running) > 0 {
				err = fmt.Errorf("%v", running)
			}
			return err
		}, n.Explain)
	}
	noneLeftRunning()
	asked := func() int { return strings.Count(n.Log(), "Removed a deleted pod from the API server") }
	harness.Eventually(t, "its removal is asked for", harness.Patience, func() error {
		if asked() == 0 {
			return errors.New("not yet")
		}
		return nil
	}, n.Explain)
	time.Sleep(3 * time.Second)
	if many := asked(); many > 4 {
		t.Errorf("its removal was asked for %d times", many)
	}
	n.Kill()
	n.Start()
	n.MustKubectl(ns, "label", "pod", "p", "looked=at")
	harness.Never(t, "it is not started again", 3*time.Second, func() error {
		running, err := n.Running("p")
		if err == nil && len(running) > 0 {
			err = fmt.Errorf("%v", running)
		}
		return err
	}, n.Explain)
	if p := n.Await(ns, "p", "is over still", over); p.UID != made.UID {
		t.Errorf("it is another pod")
	}
	if _, err := pods.Patch(t.Context(), "p", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	n.AwaitGone(ns, "p")
	noneLeft(t, n, made.UID)
}

func TestGraceIsShortened(t *testing.T) {
	n, ns := join(t)
	pods := n.Cluster.Client.CoreV1().Pods(ns)
	n.Create(ns, harness.Pod("p", `trap : TERM; while :; do sleep 0.2; done`, func(p *v1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](300)
		p.Spec.Containers[0].ReadinessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 1}
	}))
	n.AwaitReady(ns, "p")
	if err := pods.Delete(t.Context(), "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	n.Kill() // the next agent goes on stopping it
	n.Start()
	time.Sleep(2 * time.Second)
	if err := pods.Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](2)}); err != nil {
		t.Fatal(err)
	}
	n.AwaitGone(ns, "p") // of 300 s nearly all were left
}

// TestAdmissionAfterARestart makes more pods than fit, some while no agent runs. A
// running pod stays; a rejected one stays rejected.
func TestAdmissionAfterARestart(t *testing.T) {
	n, ns := join(t)
	watchPods(t, n, ns)
	port := func(p *v1.Pod) {
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 31777}}
	}
	n.Create(ns, harness.Pod("z-first", "", quick, port))
	first := n.AwaitReady(ns, "z-first")
	n.Create(ns, harness.Pod("b-refused", "", quick, port))
	refused := func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed && p.Status.Reason == "NodePorts" }
	n.Await(ns, "b-refused", "is refused", refused)
	n.Kill()
	time.Sleep(1100 * time.Millisecond) // another second than the first pod's
	n.Create(ns, harness.Pod("a-late", "", quick, port))
	n.Start()
	n.Await(ns, "a-late", "is refused", refused)
	n.Await(ns, "b-refused", "is refused still", refused)
	now := n.AwaitReady(ns, "z-first")
	if a, b := harness.Status(first, "c"), harness.Status(now, "c"); a.ContainerID != b.ContainerID {
		t.Error("the pod that had the port was restarted")
	}
	// The port becomes free, and still no rejected pod gets it.
	n.MustKubectl(ns, "delete", "pod", "z-first", patiently)
	n.Kill()
	n.Start()
	n.WaitReady()
	n.MustKubectl(ns, "label", "pod", "--all", "looked=at")
	harness.Never(t, "a pod that was refused does not run", 3*time.Second, func() error {
		own, err := n.Containers()
		for _, c := range own {
			if pod := harness.ParseName(c).Pod; c.State == container.StateRunning && pod != "z-first" { // that one is on its way out
				err = errors.New(c.Names[0])
			}
		}
		return err
	}, n.Explain)
	n.MustKubectl(ns, "delete", "pod", "--all", patiently)
}
