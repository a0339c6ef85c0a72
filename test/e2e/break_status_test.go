package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func isReady(p *v1.Pod) bool { return podCondition(p, v1.PodReady).Status == v1.ConditionTrue }

func podCondition(p *v1.Pod, kind v1.PodConditionType) v1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return v1.PodCondition{}
}

// noneLeft waits until Docker has no container of the pod with that UID.
func noneLeft(t *testing.T, n *harness.Node, uid types.UID) {
	t.Helper()
	harness.Eventually(t, "nothing is left of pod "+string(uid), harness.Patience, func() error {
		own, err := n.Containers()
		if err != nil {
			return err
		}
		for _, c := range own {
			if harness.ParseName(c).UID == string(uid) {
				return fmt.Errorf("%v: %s", c.Names, c.Status)
			}
		}
		return nil
	}, n.Explain)
}

func TestPodsChangeWhileTheAgentIsAway(t *testing.T) {
	n, ns := join(t)
	pods := n.Cluster.Client.CoreV1().Pods(ns)
	w := watchPods(t, n, ns)
	never := func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }
	for _, name := range []string{"deleted", "forced", "renewed", "stays"} {
		n.Create(ns, harness.Pod(name, ""))
	}
	n.Create(ns, harness.Pod("ends", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done", never))
	n.Create(ns, harness.Pod("ends-deleted", "trap 'exit 3' TERM; while :; do sleep 1 & wait $!; done", never))
	was := map[string]*v1.Pod{}
	for _, name := range []string{"deleted", "forced", "renewed", "stays", "ends", "ends-deleted"} {
		was[name] = n.AwaitReady(ns, name)
	}
	n.Kill()
	now := metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}
	for name, how := range map[string]metav1.DeleteOptions{"deleted": {}, "ends-deleted": {}, "forced": now, "renewed": now} {
		if err := pods.Delete(t.Context(), name, how); err != nil {
			t.Fatal(err)
		}
	}
	n.Create(ns, harness.Pod("renewed", ""))
	n.Create(ns, harness.Pod("new", ""))
	for _, name := range []string{"ends", "ends-deleted"} {
		harness.Eventually(t, "pod "+name+" has ended by itself", harness.Patience, func() error {
			running, err := n.Running(name)
			if c, runs := running["c"]; runs { // asked again: its shell may not have set the trap yet
				err = errors.Join(errors.New("it runs"), n.Docker.Client.ContainerKill(t.Context(), c.ID, "TERM"))
			}
			return err
		})
	}
	n.Start()
	n.AwaitGone(ns, "deleted")
	n.AwaitGone(ns, "ends-deleted")
	n.AwaitReady(ns, "new")
	again := n.AwaitReady(ns, "renewed")
	if again.UID == was["renewed"].UID || harness.Status(again, "c").ContainerID == harness.Status(was["renewed"], "c").ContainerID {
		t.Errorf("the pod of the same name is %s, was %s", again.UID, was["renewed"].UID)
	}
	n.Await(ns, "ends", "has ended", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded })
	for _, name := range []string{"deleted", "forced", "renewed", "ends-deleted"} {
		noneLeft(t, n, was[name].UID)
	}
	stays := n.AwaitReady(ns, "stays")
	if a, b := harness.Status(was["stays"], "c"), harness.Status(stays, "c"); a.ContainerID != b.ContainerID {
		t.Errorf("stays was restarted")
	}
	w.lastOf(n, "ends-deleted")
	ended := w.first("ends-deleted", func(p *v1.Pod) bool { return harness.Status(p, "c").State.Terminated != nil })
	if ended == nil || harness.Status(ended.pod, "c").State.Terminated.ExitCode != 3 || ended.pod.Status.Phase != v1.PodFailed {
		t.Errorf("the pod that ended by itself and was deleted meanwhile: %+v", w.of("ends-deleted"))
	}
}

// TestAgentIsKilledAtAnyMoment kills the agent again and again while pods start, end
// and are deleted. No status goes backwards (watchPods) and nothing stays behind.
func TestAgentIsKilledAtAnyMoment(t *testing.T) {
	n, ns := join(t)
	pods := n.Cluster.Client.CoreV1().Pods(ns)
	watchPods(t, n, ns)
	before, err := n.Audit()
	if err != nil {
		t.Fatal(err)
	}
	never := func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }
	for round := range 6 {
		n.Create(ns, harness.Pod(fmt.Sprintf("job-%d", round), "sleep 1; exit 0", never))
		n.Create(ns, harness.Pod(fmt.Sprintf("fails-%d", round), "exit 1", never))
		n.Create(ns, harness.Pod(fmt.Sprintf("stays-%d", round), ""))
		if round > 0 {
			if err := pods.Delete(t.Context(), fmt.Sprintf("stays-%d", round-1), metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(rand.IntN(2500)) * time.Millisecond)
		n.Kill()
		n.Start()
	}
	for round := range 6 {
		n.Await(ns, fmt.Sprintf("job-%d", round), "has succeeded", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded })
		p := n.Await(ns, fmt.Sprintf("fails-%d", round), "has failed", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed })
		if s := harness.Status(p, "c"); s.RestartCount != 0 {
			t.Errorf("%s ran %d times", p.Name, s.RestartCount+1)
		}
		if round < 5 {
			n.AwaitGone(ns, fmt.Sprintf("stays-%d", round))
		}
	}
	n.AwaitReady(ns, "stays-5")
	if err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	leftAsBefore(t, n, before)
}

// leftAsBefore waits until the node holds no more than at an audit before.
func leftAsBefore(t *testing.T, n *harness.Node, before harness.Audit) {
	t.Helper()
	harness.Eventually(t, "nothing is left of the pods", 2*harness.Patience, func() error {
		list, err := n.Cluster.Client.CoreV1().Pods(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + n.Node()})
		if err != nil {
			return err
		}
		if len(list.Items) > 0 {
			return fmt.Errorf("%d pods are left, %s among them", len(list.Items), list.Items[0].Name)
		}
		after, err := n.Audit()
		if err != nil {
			return err
		}
		before.Netns, before.Veths, after.Netns, after.Veths = 0, 0, 0, 0 // Docker is shared with others
		return before.Leaks(after)
	}, n.Explain)
}

func TestReadinessIsTold(t *testing.T) {
	n, ns := join(t)
	probe := &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"test", "-e", "/tmp/ready"}}}, PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 30}
	n.Create(ns, harness.Pod("p", "touch /tmp/ready; sleep 1000", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].ReadinessProbe = probe
		p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	}))
	n.Await(ns, "p", "has its containers ready but not its gate", func(p *v1.Pod) bool {
		return podCondition(p, v1.ContainersReady).Status == v1.ConditionTrue && podCondition(p, v1.PodReady).Reason == "ReadinessGatesNotReady"
	})
	// Others set conditions, and the node keeps them.
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"example.com/gate","status":"True"},{"type":"DisruptionTarget","status":"True","reason":"Test","lastTransitionTime":%q}]}}`,
		time.Now().UTC().Format(time.RFC3339)) // without a time the disruption controller takes it for stale
	if _, err := n.Cluster.Client.CoreV1().Pods(ns).Patch(t.Context(), "p", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	n.Await(ns, "p", "is Ready once its gate is open", isReady)
	for range 2 {
		n.MustKubectl(ns, "exec", "p", "--", "rm", "/tmp/ready")
		n.Await(ns, "p", "is not Ready", func(p *v1.Pod) bool { return !isReady(p) })
		n.MustKubectl(ns, "exec", "p", "--", "touch", "/tmp/ready")
		p := n.Await(ns, "p", "is Ready again", isReady)
		for _, kind := range []v1.PodConditionType{"example.com/gate", v1.DisruptionTarget} {
			if podCondition(p, kind).Status != v1.ConditionTrue {
				t.Errorf("condition %s is lost: %v", kind, p.Status.Conditions)
			}
		}
	}
}

func TestStatefulSet(t *testing.T) {
	n, ns := join(t)
	watchPods(t, n, ns)
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec:       appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2), Selector: selector("db"), Template: template(n, "db", "")},
	}
	set.Spec.Template.Spec.TerminationGracePeriodSeconds = ptr.To[int64](5)
	if _, err := n.Cluster.Client.AppsV1().StatefulSets(ns).Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := n.Cluster.Client.CoreV1().Pods(ns)
	last := map[string]types.UID{}
	for round := range 4 {
		for _, name := range []string{"db-0", "db-1"} {
			p := n.Await(ns, name, "is there anew", func(p *v1.Pod) bool { return p.UID != last[name] && harness.Ready(p) && isReady(p) })
			last[name] = p.UID
		}
		if round == 3 {
			break
		}
		grace := metav1.DeleteOptions{}
		if round == 2 {
			grace.GracePeriodSeconds = ptr.To[int64](0) // the next pod is there while this one still runs
		}
		for name := range last {
			if err := pods.Delete(t.Context(), name, grace); err != nil {
				t.Fatal(err)
			}
		}
	}
	n.MustKubectl("", "delete", "namespace", ns, patiently)
	for _, uid := range last {
		noneLeft(t, n, uid)
	}
	if _, err := n.Cluster.Client.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the namespace: %v", err)
	}
}

func TestChangesOfARunningPodsSpec(t *testing.T) {
	n, ns := join(t)
	watchPods(t, n, ns)
	n.Docker.LoadBusybox(t, "changed:1")
	n.Create(ns, harness.Pod("p", ""))
	was := n.AwaitReady(ns, "p")
	observed := func(p *v1.Pod) bool { return p.Status.ObservedGeneration == p.Generation }
	for _, patch := range []string{
		`{"metadata":{"labels":{"a":"b"},"annotations":{"c":"d"}}}`,
		`{"spec":{"tolerations":[{"key":"x","operator":"Exists"}]}}`,
		`{"spec":{"activeDeadlineSeconds":1000}}`,
	} {
		n.MustKubectl(ns, "patch", "pod", "p", "-p", patch)
		p := n.Await(ns, "p", "is observed as it is", observed)
		if harness.Status(p, "c").ContainerID != harness.Status(was, "c").ContainerID {
			t.Fatalf("%s restarted the container", patch)
		}
		was = p
	}
	if was.Generation < 3 {
		t.Errorf("generation %d after two changes of the spec", was.Generation)
	}
	n.MustKubectl(ns, "set", "image", "pod/p", "c=changed:1")
	p := n.Await(ns, "p", "runs the new image", func(p *v1.Pod) bool {
		s := harness.Status(p, "c")
		return observed(p) && harness.Ready(p) && s.ContainerID != harness.Status(was, "c").ContainerID && s.State.Running != nil
	})
	if s := harness.Status(p, "c"); s.RestartCount != 1 || s.Image != "changed:1" || s.LastTerminationState.Terminated == nil {
		t.Errorf("after the change of the image: %+v", s)
	}
}

// TestManyPodsComeAndGo starts and deletes many at once, the second time as they start.
func TestManyPodsComeAndGo(t *testing.T) {
	n, ns := join(t)
	watchPods(t, n, ns)
	pods := n.Cluster.Client.CoreV1().Pods(ns)
	n.Create(ns, harness.Pod("warm", "", quick))
	n.AwaitReady(ns, "warm")
	n.MustKubectl(ns, "delete", "pod", "warm", patiently)
	before, err := n.Audit()
	if err != nil {
		t.Fatal(err)
	}
	const many = 20
	for round := range 2 {
		for i := range many {
			n.Create(ns, harness.Pod(fmt.Sprintf("p%d", i), ""))
		}
		if round == 0 {
			harness.Eventually(t, "all are Ready", 3*harness.Patience, func() error {
				list, err := pods.List(t.Context(), metav1.ListOptions{})
				if err != nil {
					return err
				}
				ready := 0
				for i := range list.Items {
					if isReady(&list.Items[i]) {
						ready++
					}
				}
				if ready < many {
					return fmt.Errorf("%d are", ready)
				}
				return nil
			}, n.Explain)
		}
		if err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "all are gone", 3*harness.Patience, func() error {
			list, err := pods.List(t.Context(), metav1.ListOptions{})
			if err == nil && len(list.Items) > 0 {
				err = errors.New(list.Items[0].Name + " is left")
			}
			return err
		}, n.Explain)
	}
	leftAsBefore(t, n, before)
}
