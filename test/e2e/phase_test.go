package e2e

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestPodThatIsEndedAtTheAPIServer sets the phases of pods as a controller could. The node
// stops such a pod; a static pod's object is only an image, and is made to tell the truth.
func TestPodThatIsEndedAtTheAPIServer(t *testing.T) {
	n, ns := join(t)
	say := func(namespace, name, status string) {
		t.Helper()
		if _, err := n.Cluster.Client.CoreV1().Pods(namespace).Patch(t.Context(), name, types.MergePatchType,
			[]byte(`{"status":`+status+`}`), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	n.Write("static.yaml", harness.Pod("static", "", func(p *v1.Pod) { p.Namespace = ns }))
	for _, name := range []string{"failed", "succeeded"} {
		n.Create(ns, harness.Pod(name, "trap 'exit 7' TERM; while :; do sleep 1 & wait $!; done"))
	}
	static := n.AwaitReady(ns, n.Name("static"))
	for name, want := range map[string]v1.PodStatus{
		"failed":    {Phase: v1.PodFailed, Reason: "Stuck", Message: "said the test"},
		"succeeded": {Phase: v1.PodSucceeded},
	} {
		was := n.AwaitReady(ns, name)
		say(ns, name, `{"phase":"`+string(want.Phase)+`","reason":"`+want.Reason+`","message":"`+want.Message+`"}`)
		p := n.Await(ns, name, "has been stopped", func(p *v1.Pod) bool { return harness.Status(p, "c").State.Terminated != nil })
		if p.Status.Phase != want.Phase || p.Status.Reason != want.Reason || p.Status.Message != want.Message || isReady(p) {
			t.Errorf("%s is %s %q %q, ready %v", name, p.Status.Phase, p.Status.Reason, p.Status.Message, isReady(p))
		}
		if s := harness.Status(p, "c"); s.ContainerID != harness.Status(was, "c").ContainerID || s.RestartCount != 0 {
			t.Errorf("%s: %+v", name, s)
		}
		n.MustKubectl(ns, "delete", "pod", name, patiently)
		noneLeft(t, n, was.UID)
	}

	say(ns, static.Name, `{"phase":"Failed","reason":"Stuck"}`)
	again := n.Await(ns, static.Name, "is shown as it is", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodRunning && p.Status.Reason == "" })
	if harness.Status(again, "c").ContainerID != harness.Status(static, "c").ContainerID {
		t.Errorf("the static pod was restarted")
	}
}
