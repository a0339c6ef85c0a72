package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// says waits until `why` says of a pod, alone, what matches.
func says(t *testing.T, a *harness.Agent, pod, want string) {
	t.Helper()
	re := regexp.MustCompile(want)
	harness.Eventually(t, "why says of "+pod+" that "+want, harness.Patience, func() error {
		r, err := a.Why(t.Context(), "default", pod)
		if err != nil {
			return err
		}
		if len(r.Findings) != 1 {
			return fmt.Errorf("%d findings: %+v", len(r.Findings), r.Findings)
		}
		if s := r.Findings[0].Sentence(time.Now()); !re.MatchString(s) {
			return errors.New(s)
		}
		return nil
	}, a.Explain)
}

// Who sent a 137 is told apart, and what a pod listens to beside what its probe asks is seen.
func TestWhyPodsDoNotRunAsWanted(t *testing.T) {
	a := start(t)
	never := func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }
	const deaf = "trap '' TERM; while :; do sleep 1; done" // to SIGTERM
	a.Write("healthy.yaml", harness.Pod("healthy", ""))
	a.Write("hungry.yaml", harness.Pod("hungry", "exec dd if=/dev/zero of=/dev/null bs=200M count=1", never, func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("24Mi")}
	}))
	a.Write("victim.yaml", harness.Pod("victim", "", never))
	a.Write("unlively.yaml", harness.Pod("unlively", deaf, never, func(p *v1.Pod) {
		p.Spec.Containers[0].LivenessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"sh", "-c", "echo no heartbeat; false"}}}, PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 60}
	}))
	a.Write("overdue.yaml", harness.Pod("overdue", deaf, func(p *v1.Pod) {
		p.Spec.ActiveDeadlineSeconds = new(int64)
		*p.Spec.ActiveDeadlineSeconds = 1
	}))
	a.Write("wrong.yaml", harness.Pod("wrong", "exec httpd -f -p 127.0.0.1:6379", func(p *v1.Pod) {
		p.Spec.Containers[0].ReadinessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1}
	}))
	a.WriteText("broken.yaml", strings.Replace(harness.Manifest(harness.Pod("broken", "")), "  containers:", "  Containers:", 1))
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := int32(l.Addr().(*net.TCPAddr).Port)
	a.Write("late.yaml", harness.Pod("late", "", func(p *v1.Pod) {
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: taken}}
	}))
	a.WaitRunning("victim")
	running, err := a.Running("victim")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Docker.Client.ContainerKill(t.Context(), running["c"].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	says(t, a, "hungry", `^Failed: container c was killed at .* for using all of its 24Mi of memory \(OOMKilled, exit code 137\).* → raise spec.containers\[0\].resources.limits.memory, .* \(hungry.yaml:\d+\)`)
	says(t, a, "victim", `^Failed: container c was killed at .* by somebody else \(SIGKILL, exit code 137\)`)
	says(t, a, "unlively", `^Failed: container c failed its liveness probe at .*, was stopped by the agent and did not end within its grace period and was killed \(SIGKILL, exit code 137\).*; failed: no heartbeat. → mend what spec.containers\[0\].livenessProbe.exec asks.* \(unlively.yaml:\d+\)`)
	says(t, a, "overdue", `^DeadlineExceeded: it ran longer than the 1 s that spec.activeDeadlineSeconds allows. → raise .* \(overdue.yaml:\d+\)`)
	says(t, a, "wrong", `^not Ready for .*: container c's readiness probe does not succeed; it asks port 8080, and the pod listens on 127.0.0.1:6379 only. → set spec.containers\[0\].readinessProbe.tcpSocket.port to 6379, .* \(wrong.yaml:\d+\)`)
	says(t, a, "late", fmt.Sprintf(`^Pending: its sandbox cannot be made: .*:%d: bind: address already in use.* or stop what has the port: process %d \(.*\) \(late.yaml:\d+\)`, taken, os.Getpid()))
	says(t, a, "broken", `^refused: spec.Containers: unknown field \(it is spelt "containers"\).* → write "containers" for Containers \(broken.yaml:\d+\)`)

	all := look(t, a, "", "why")
	for _, name := range []string{"broken", a.Name("hungry"), a.Name("victim"), a.Name("unlively"), a.Name("overdue"), a.Name("wrong"), a.Name("late")} {
		if strings.Count(all.out, "\n"+name+" ")+strings.Count(all.out[:min(len(name)+1, len(all.out))], name+" ") != 1 {
			t.Errorf("why does not say one line of %s:\n%s", name, all.out)
		}
	}
	if all.code != 1 || !strings.HasSuffix(all.out, "\nAll others run as wanted.\n") || strings.Contains(all.out, a.Name("healthy")) {
		t.Errorf("why ends with %d and says\n%s%s", all.code, all.out, all.err)
	}
	a.WaitRunning("healthy")
	if r := look(t, a, "", "why", "healthy"); r.code != 0 || r.out != "All pods run as wanted.\n" {
		t.Errorf("of a healthy pod: %+v", r)
	}
	if r := look(t, a, "", "why", "pod/wrong", "-o", "json"); r.code != 1 || !strings.Contains(r.out, `"where": "`+a.Manifests+`/wrong.yaml:`) {
		t.Errorf("as JSON: %+v", r)
	}
	if r := look(t, a, "", "why", "nobody"); r.code != 1 || !strings.Contains(r.err, `no pod "nobody" is known`) {
		t.Errorf("of an unknown pod: %+v", r)
	}
	if _, err := a.Get("/mini-kubelet/why"); err == nil {
		t.Error("the read-only port answers why")
	}
}
