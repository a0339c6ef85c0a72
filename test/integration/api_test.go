package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestPodsShowWhatKubectlWouldShow compares /pods with what a stock node shows
// of the same static pod, field by field.
func TestPodsShowWhatKubectlWouldShow(t *testing.T) {
	a := start(t)
	began := time.Now().Add(-time.Second).Truncate(time.Second)
	a.Write("web.yaml", harness.Pod("web", "", func(p *v1.Pod) {
		p.Labels = map[string]string{"app": "web"}
		p.Spec.InitContainers = []v1.Container{harness.Container("setup", "exit 0")}
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceMemory: resource.MustParse("16Mi")}
	}))
	p := a.WaitRunning("web")
	list, err := a.Pods()
	if err != nil {
		t.Fatal(err)
	}
	equal := func(field string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %v, want %v", field, got, want)
		}
	}
	equal("kind", list.Kind, "PodList")
	equal("apiVersion", list.APIVersion, "v1")

	equal("metadata.name", p.Name, "web-"+a.Node)
	equal("metadata.namespace", p.Namespace, "default")
	equal("metadata.labels[app]", p.Labels["app"], "web")
	equal("config.source", p.Annotations["kubernetes.io/config.source"], "file")
	equal("config.hash", p.Annotations["kubernetes.io/config.hash"], string(p.UID))
	if _, err := time.Parse(time.RFC3339Nano, p.Annotations["kubernetes.io/config.seen"]); err != nil {
		t.Errorf("config.seen: %v", err)
	}
	equal("length of the UID", len(p.UID), 32)

	equal("spec.nodeName", p.Spec.NodeName, a.Node)
	equal("spec.restartPolicy", p.Spec.RestartPolicy, v1.RestartPolicyAlways)
	equal("spec.dnsPolicy", p.Spec.DNSPolicy, v1.DNSClusterFirst)
	equal("spec.schedulerName", p.Spec.SchedulerName, v1.DefaultSchedulerName)
	equal("imagePullPolicy", p.Spec.Containers[0].ImagePullPolicy, v1.PullIfNotPresent)
	equal("terminationMessagePath", p.Spec.Containers[0].TerminationMessagePath, v1.TerminationMessagePathDefault)
	equal("terminationMessagePolicy", p.Spec.Containers[0].TerminationMessagePolicy, v1.TerminationMessageReadFile)
	tolerated := false
	for _, tol := range p.Spec.Tolerations {
		tolerated = tolerated || tol.Operator == v1.TolerationOpExists && tol.Effect == v1.TaintEffectNoExecute && tol.Key == ""
	}
	equal("NoExecute tolerated", tolerated, true)

	s := p.Status
	equal("phase", s.Phase, v1.PodRunning)
	equal("qosClass", s.QOSClass, v1.PodQOSBurstable)
	for _, kind := range []v1.PodConditionType{v1.PodScheduled, v1.PodInitialized, v1.ContainersReady, v1.PodReady, "PodReadyToStartContainers"} {
		equal("condition "+string(kind), condition(p, kind), v1.ConditionTrue)
	}
	if net.ParseIP(s.PodIP) == nil || net.ParseIP(s.HostIP) == nil {
		t.Errorf("podIP %q, hostIP %q: want addresses", s.PodIP, s.HostIP)
	}
	if len(s.PodIPs) == 0 || s.PodIPs[0].IP != s.PodIP || len(s.HostIPs) == 0 || s.HostIPs[0].IP != s.HostIP {
		t.Errorf("podIPs %v, hostIPs %v: want the primary ones first", s.PodIPs, s.HostIPs)
	}
	if s.StartTime == nil || s.StartTime.Time.Before(began) || s.StartTime.After(time.Now()) {
		t.Errorf("startTime %v", s.StartTime)
	}

	c := harness.Status(p, "c")
	if !strings.HasPrefix(c.ContainerID, "docker://") || len(harness.ID(c.ContainerID)) != 64 {
		t.Errorf("containerID %q", c.ContainerID)
	}
	equal("image", c.Image, harness.Busybox)
	if !strings.Contains(c.ImageID, "sha256:") {
		t.Errorf("imageID %q", c.ImageID)
	}
	equal("ready", c.Ready, true)
	equal("started", c.Started != nil && *c.Started, true)
	equal("restartCount", c.RestartCount, int32(0))
	if c.State.Running == nil || c.State.Running.StartedAt.Time.Before(began) {
		t.Errorf("state %+v", c.State)
	}
	equal("lastState", c.LastTerminationState, v1.ContainerState{})
	info, err := a.Docker.Client.ContainerInspect(t.Context(), harness.ID(c.ContainerID))
	if err != nil {
		t.Fatal(err)
	}
	started, err := time.Parse(time.RFC3339Nano, info.State.StartedAt)
	if err != nil {
		t.Fatal(err)
	}
	equal("startedAt", c.State.Running.StartedAt.Unix(), started.Unix())

	i := harness.Status(p, "setup")
	if term := i.State.Terminated; term == nil || term.ExitCode != 0 || term.Reason != "Completed" || term.FinishedAt.Time.Before(began) || term.ContainerID != i.ContainerID {
		t.Errorf("init container: %+v", i)
	}
	equal("init ready", i.Ready, true)
}

func TestTerminationMessage(t *testing.T) {
	a := start(t)
	a.Write("message.yaml", harness.Pod("message", "echo the disk is made of cheese >/dev/termination-log; exit 9", policy(v1.RestartPolicyNever)))
	p := a.WaitPhase("message", v1.PodFailed)
	term := harness.Status(p, "c").State.Terminated
	if term == nil || term.ExitCode != 9 || strings.TrimSpace(term.Message) != "the disk is made of cheese" {
		t.Errorf("state %+v, want 9 and the message", term)
	}
}

func TestTerminationMessageFromTheLog(t *testing.T) {
	a := start(t)
	a.Write("message.yaml", harness.Pod("message", "for i in $(seq 100); do echo line $i; done; exit 9", policy(v1.RestartPolicyNever), func(p *v1.Pod) {
		p.Spec.Containers[0].TerminationMessagePolicy = v1.TerminationMessageFallbackToLogsOnError
	}))
	p := a.WaitPhase("message", v1.PodFailed)
	term := harness.Status(p, "c").State.Terminated
	if term == nil || !strings.HasPrefix(term.Message, "line 21\n") || !strings.HasSuffix(term.Message, "line 100\n") {
		t.Errorf("state %+v, want the last 80 lines", term)
	}
}

func TestTerminationMessagesOfAPodAreLimitedTogether(t *testing.T) {
	a := start(t)
	talk := "head -c 5000 /dev/zero | tr '\\0' x >/dev/termination-log; echo -n end >>/dev/termination-log; exit 1"
	a.Write("message.yaml", harness.Pod("message", talk, policy(v1.RestartPolicyNever), func(p *v1.Pod) {
		for i := range 3 {
			p.Spec.Containers = append(p.Spec.Containers, harness.Container(fmt.Sprintf("c%d", i), talk))
		}
	}))
	p := a.WaitPhase("message", v1.PodFailed)
	for _, c := range p.Status.ContainerStatuses {
		if term := c.State.Terminated; term == nil || len(term.Message) != 3072 {
			t.Errorf("%s: %+v, want 12 KiB shared by four", c.Name, c.State)
		}
	}
}

func TestQOSClasses(t *testing.T) {
	a := start(t)
	both := v1.ResourceList{v1.ResourceCPU: resource.MustParse("50m"), v1.ResourceMemory: resource.MustParse("32Mi")}
	a.Write("pods.yaml",
		harness.Pod("guaranteed", "", func(p *v1.Pod) { p.Spec.Containers[0].Resources = v1.ResourceRequirements{Limits: both} }),
		harness.Pod("burstable", "", func(p *v1.Pod) { p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: both} }),
		harness.Pod("besteffort", ""))
	for name, want := range map[string]v1.PodQOSClass{"guaranteed": v1.PodQOSGuaranteed, "burstable": v1.PodQOSBurstable, "besteffort": v1.PodQOSBestEffort} {
		p := a.WaitRunning(name)
		if p.Status.QOSClass != want {
			t.Errorf("%s: %s, want %s", name, p.Status.QOSClass, want)
		}
	}
	running, err := a.Running("guaranteed")
	if err != nil {
		t.Fatal(err)
	}
	info, err := a.Docker.Client.ContainerInspect(t.Context(), running["c"].ID)
	if err != nil {
		t.Fatal(err)
	}
	if info.HostConfig.Memory != 32<<20 || info.HostConfig.CPUShares != 51 || info.HostConfig.CPUQuota != 5000 {
		t.Errorf("memory %d, shares %d, quota %d, want 33554432, 51, 5000", info.HostConfig.Memory, info.HostConfig.CPUShares, info.HostConfig.CPUQuota)
	}
}

func TestLogsAreWhereTheKubeletPutsThem(t *testing.T) {
	a := start(t)
	a.Write("talk.yaml", harness.Pod("talk", "echo hello from the pod; while :; do sleep 1; done"))
	p := a.WaitRunning("talk")
	want := "default_" + p.Name + "_" + string(p.UID) + "/c/0.log"
	harness.Eventually(t, "the log "+want+" holds what the container said", harness.Patience, func() error {
		text, err := harness.ReadText(a.Dir + "/logs/" + want)
		if err == nil && !strings.Contains(text, "hello from the pod") {
			err = errString(text)
		}
		return err
	}, a.Explain)
}

func TestHealthzAndMetrics(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	if body, err := a.Get("/healthz"); err != nil || strings.TrimSpace(string(body)) != "ok" {
		t.Errorf("/healthz: %q, %v", body, err)
	}
	if body, err := a.Get("/metrics"); err != nil || !strings.Contains(string(body), "# TYPE go_goroutines gauge") {
		t.Errorf("/metrics: %d bytes, %v", len(body), err)
	}
	web := harness.Pod("probed", "")
	web.Spec.Containers[0].LivenessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 1}
	a.Write("probed.yaml", web)
	harness.Eventually(t, "the probe is counted", harness.Patience, func() error {
		body, err := a.Get("/metrics/probes")
		if err == nil && !strings.Contains(string(body), `prober_probe_total{container="c",namespace="default",pod="`+a.Name("probed")+`"`) {
			err = errString(body)
		}
		return err
	}, a.Explain)
}

type errString string

func (e errString) Error() string { return string(e) }
