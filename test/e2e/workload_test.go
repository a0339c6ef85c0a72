package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// template is a pod template that only this test's node runs.
func template(n *harness.Node, app, script string) v1.PodTemplateSpec {
	spec := harness.Pod("x", script, quick).Spec
	spec.NodeSelector = map[string]string{v1.LabelHostname: n.Node()}
	return v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}, Spec: spec}
}

func selector(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func TestDeploymentRollsOut(t *testing.T) {
	n, ns := join(t)
	apps := n.Cluster.Client.AppsV1()
	d, err := apps.Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr.To[int32](3), Selector: selector("web"), Template: template(n, "web", "echo one; sleep 1000")},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.MustKubectl(ns, "rollout", "status", "deployment/web", patiently)
	old, err := n.Cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(old.Items) != 3 {
		t.Fatalf("%d pods: %v", len(old.Items), err)
	}
	d.Spec.Template = template(n, "web", "echo two; sleep 1000")
	d.ResourceVersion = ""
	if _, err := apps.Deployments(ns).Update(t.Context(), d, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.MustKubectl(ns, "rollout", "status", "deployment/web", patiently)
	harness.Eventually(t, "only the new pods are left", harness.Patience, func() error {
		now, err := n.Cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, p := range now.Items {
			for _, o := range old.Items {
				if p.UID == o.UID {
					return fmt.Errorf("%s is still there", p.Name)
				}
			}
		}
		if len(now.Items) != 3 {
			return fmt.Errorf("%d pods", len(now.Items))
		}
		return nil
	}, n.Explain)
}

func TestDaemonSetAndJob(t *testing.T) {
	n, ns := join(t)
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "ds"},
		Spec:       appsv1.DaemonSetSpec{Selector: selector("ds"), Template: template(n, "ds", "sleep 1000")},
	}
	if _, err := n.Cluster.Client.AppsV1().DaemonSets(ns).Create(t.Context(), ds, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "job"},
		Spec:       batchv1.JobSpec{Completions: ptr.To[int32](4), Parallelism: ptr.To[int32](2), Template: template(n, "job", "echo done")},
	}
	job.Spec.Template.Spec.RestartPolicy = v1.RestartPolicyNever
	if _, err := n.Cluster.Client.BatchV1().Jobs(ns).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.MustKubectl(ns, "wait", "--for=condition=complete", "job/job", patiently)
	n.MustKubectl(ns, "rollout", "status", "daemonset/ds", patiently)
	pods, err := n.Cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=job"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		if p.Status.Phase != v1.PodSucceeded {
			t.Errorf("pod %s of a complete job is %s", p.Name, p.Status.Phase)
		}
	}
}

// A Job that may run once only fails when what its pod runs in dies: its command is not
// started a second time.
func TestJobOfOneRunIsNotRunTwice(t *testing.T) {
	n, ns := join(t)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "once"},
		Spec:       batchv1.JobSpec{BackoffLimit: ptr.To[int32](0), Template: template(n, "once", "sleep 1000")},
	}
	job.Spec.Template.Spec.RestartPolicy = v1.RestartPolicyNever
	if _, err := n.Cluster.Client.BatchV1().Jobs(ns).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// By the job: its pod may not have been made yet, and kubectl waits for no pods at all.
	n.MustKubectl(ns, "wait", "--for=jsonpath={.status.ready}=1", "job/once", patiently)
	pods, err := n.Cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=once"})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods: %v", len(pods.Items), err)
	}
	name := pods.Items[0].Name
	running, err := n.Running(name)
	if err != nil {
		t.Fatal(err)
	}
	n.Kill()
	if err := n.Docker.Client.ContainerKill(t.Context(), running[harness.Sandbox].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.MustKubectl(ns, "wait", "--for=condition=failed", "job/once", patiently)
	p, err := n.Cluster.Client.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c := p.Status.ContainerStatuses[0]; p.Status.Phase != v1.PodFailed || c.State.Terminated == nil || c.RestartCount != 0 || harness.ID(c.ContainerID) != running["c"].ID {
		t.Errorf("the pod is %s with %+v, want its first container ended", p.Status.Phase, c)
	}
	if left, err := n.Running(name); err != nil || len(left) > 0 {
		t.Errorf("%d containers of it run: %v", len(left), err)
	}
}

func TestDrainAndCordon(t *testing.T) {
	n, ns := join(t)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr.To[int32](2), Selector: selector("web"), Template: template(n, "web", "sleep 1000")},
	}
	if _, err := n.Cluster.Client.AppsV1().Deployments(ns).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.MustKubectl(ns, "rollout", "status", "deployment/web", patiently)
	n.MustKubectl(ns, "drain", n.Node(), "--ignore-daemonsets", patiently, "--pod-selector=app=web")
	pods, err := n.Cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + n.Node()})
	if err != nil || len(pods.Items) != 0 {
		t.Errorf("%d pods are left after drain: %v", len(pods.Items), err)
	}
	n.MustKubectl("", "label", "node", n.Node(), "example.com/mine=kept")
	n.Kill()
	n.Start()
	harness.Eventually(t, "the agent has registered again", harness.Patience, func() error {
		if !strings.Contains(n.Log(), "The node was registered before") {
			return errors.New("not yet")
		}
		return nil
	}, n.Explain)
	node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !node.Spec.Unschedulable || node.Labels["example.com/mine"] != "kept" {
		t.Errorf("after a restart: unschedulable=%v labels=%v", node.Spec.Unschedulable, node.Labels)
	}
	n.MustKubectl("", "uncordon", n.Node())
	n.MustKubectl(ns, "rollout", "status", "deployment/web", patiently)
}

func TestDeleteGivesTheGracePeriod(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", `trap 'echo bye; sleep 2; exit 0' TERM; touch /tmp/ready; while true; do sleep 0.1; done`, harness.ReadyOnceTouched, func(p *v1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](30)
	}))
	n.AwaitReady(ns, "p")
	w := watchPods(t, n, ns)
	begin := time.Now()
	if err := n.Cluster.Client.CoreV1().Pods(ns).Delete(t.Context(), "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The status comes first: it shows that the pod is over before the pod is gone.
	ended := w.lastOf(n, "p")
	if s := harness.Status(ended, "c").State.Terminated; s == nil || s.ExitCode != 0 {
		t.Errorf("it ended as %+v, killed before its time", harness.Status(ended, "c").State)
	}
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("it was gone after %v, before it could have ended", took)
	}
}

func TestAdmissionOnTheNode(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("first", "sleep 1000", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 31999}}
	}))
	n.AwaitReady(ns, "first")
	tests := map[string]struct {
		reason string
		change func(*v1.Pod)
	}{
		"affinity": {"NodeAffinity", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"none": "such"} }},
		"ports": {"NodePorts", func(p *v1.Pod) {
			p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 31999}}
		}},
		"cpu": {"OutOfcpu", func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: *ptr.To(quantity("500"))}
		}},
		"os": {"PodOSNotSupported", func(p *v1.Pod) { p.Spec.OS = &v1.PodOS{Name: v1.Windows} }},
	}
	for name, tt := range tests {
		n.Create(ns, harness.Pod(name, "sleep 1000", quick, tt.change))
	}
	for name, tt := range tests {
		p := n.Await(ns, name, "is rejected", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed })
		if p.Status.Reason != tt.reason {
			t.Errorf("%s: reason %s: %s, want %s", name, p.Status.Reason, p.Status.Message, tt.reason)
		}
		n.MustKubectl(ns, "delete", "pod", name, patiently)
	}
}

func TestAPodThatRestartsAllItsContainersIsScheduledAndDoes(t *testing.T) {
	n, ns := join(t)
	never := v1.ContainerRestartPolicyNever
	pod := harness.Pod("all", "", quick, func(p *v1.Pod) {
		// The scheduler sends it only to a node that declares the feature.
		p.Spec.NodeSelector = map[string]string{v1.LabelHostname: n.Node()}
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
		cause := harness.Container("cause", "test -e /v/again && exec sleep 3600; touch /v/again; exit 42")
		cause.VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
		cause.RestartPolicy = &never
		cause.RestartPolicyRules = []v1.ContainerRestartRule{{Action: v1.ContainerRestartRuleActionRestartAllContainers,
			ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
		p.Spec.Containers = append(p.Spec.Containers, cause)
	})
	if _, err := n.Cluster.Client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := n.Await(ns, "all", "all run again", func(p *v1.Pod) bool {
		restarting := conditionOf(p, v1.AllContainersRestarting)
		return restarting != nil && restarting.Status == v1.ConditionFalse && harness.Ready(p) && harness.Status(p, "c").RestartCount == 1 && harness.Status(p, "cause").RestartCount == 1
	})
	if last := harness.Status(p, "c").LastTerminationState.Terminated; last == nil || last.Reason != "RestartingAllContainers" || last.ExitCode != 137 {
		t.Errorf("the container was terminated by %+v", last)
	}
}
