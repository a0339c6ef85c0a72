package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant %s (or run with -update):\n%s", got, file, want)
	}
}

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// aPod is a pod with that many containers, changed by f.
func aPod(name string, containers int, f func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       v1.PodSpec{NodeName: "n1"},
		Status:     v1.PodStatus{Phase: v1.PodRunning, PodIP: "172.17.0.2", QOSClass: v1.PodQOSBestEffort},
	}
	for i := range containers {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: string(rune('a' + i)), Image: "demo:1"})
	}
	f(p)
	return p
}

func waiting(reason string) v1.ContainerState {
	return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason}}
}

func terminated(reason string, code, signal int32) v1.ContainerState {
	return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Reason: reason, ExitCode: code, Signal: signal}}
}

var running = v1.ContainerState{Running: &v1.ContainerStateRunning{}}

// initStatus gives the pod init containers with these states.
func initStatus(p *v1.Pod, states ...v1.ContainerState) {
	for i, s := range states {
		name := "init" + string(rune('0'+i))
		p.Spec.InitContainers = append(p.Spec.InitContainers, v1.Container{Name: name})
		p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, v1.ContainerStatus{Name: name, State: s})
	}
}

func runStatus(p *v1.Pod, states ...v1.ContainerState) {
	for i, s := range states {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses,
			v1.ContainerStatus{Name: p.Spec.Containers[i].Name, State: s, Ready: s.Running != nil})
	}
}

func TestStatusWordIsKubectls(t *testing.T) {
	tests := []struct {
		name  string
		pod   *v1.Pod
		word  string
		ready int
		total int
	}{
		{"running", aPod("p", 2, func(p *v1.Pod) { runStatus(p, running, running) }), "Running", 2, 2},
		{"nothing known yet", aPod("p", 1, func(p *v1.Pod) { p.Status = v1.PodStatus{} }), "Pending", 0, 1},
		{"creating", aPod("p", 1, func(p *v1.Pod) { p.Status.Phase = v1.PodPending; runStatus(p, waiting("ContainerCreating")) }), "ContainerCreating", 0, 1},
		{"crash loop", aPod("p", 1, func(p *v1.Pod) { runStatus(p, waiting("CrashLoopBackOff")) }), "CrashLoopBackOff", 0, 1},
		{"the first container with a reason speaks", aPod("p", 3, func(p *v1.Pod) { runStatus(p, running, waiting("ErrImagePull"), waiting("CrashLoopBackOff")) }), "ErrImagePull", 1, 3},
		{"completed", aPod("p", 1, func(p *v1.Pod) { p.Status.Phase = v1.PodSucceeded; runStatus(p, terminated("Completed", 0, 0)) }), "Completed", 0, 1},
		{"one completed beside a running one", aPod("p", 2, func(p *v1.Pod) {
			p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}
			runStatus(p, terminated("Completed", 0, 0), running)
		}), "Running", 1, 2},
		{"one completed beside a running one, not ready", aPod("p", 2, func(p *v1.Pod) { runStatus(p, terminated("Completed", 0, 0), running) }), "NotReady", 1, 2},
		{"error", aPod("p", 1, func(p *v1.Pod) { runStatus(p, terminated("Error", 1, 0)) }), "Error", 0, 1},
		{"exit code without a reason", aPod("p", 1, func(p *v1.Pod) { runStatus(p, terminated("", 3, 0)) }), "ExitCode:3", 0, 1},
		{"signal without a reason", aPod("p", 1, func(p *v1.Pod) { runStatus(p, terminated("", 137, 9)) }), "Signal:9", 0, 1},
		{"reason of the pod", aPod("p", 1, func(p *v1.Pod) { p.Status.Phase, p.Status.Reason = v1.PodFailed, "OutOfcpu" }), "OutOfcpu", 0, 1},
		{"terminating", aPod("p", 1, func(p *v1.Pod) { p.DeletionTimestamp = ptr.To(ago(0)); runStatus(p, running) }), "Terminating", 1, 1},
		{"deleted when it had already ended", aPod("p", 1, func(p *v1.Pod) {
			p.DeletionTimestamp, p.Status.Phase = ptr.To(ago(0)), v1.PodSucceeded
			runStatus(p, terminated("Completed", 0, 0))
		}), "Completed", 0, 1},
		{"first of two init containers runs", aPod("p", 1, func(p *v1.Pod) {
			initStatus(p, running, waiting("PodInitializing"))
			runStatus(p, waiting("PodInitializing"))
		}), "Init:0/2", 0, 1},
		{"second of two init containers runs", aPod("p", 1, func(p *v1.Pod) {
			initStatus(p, terminated("Completed", 0, 0), running)
			runStatus(p, waiting("PodInitializing"))
		}), "Init:1/2", 0, 1},
		{"init container fails", aPod("p", 1, func(p *v1.Pod) { initStatus(p, terminated("Error", 1, 0)); runStatus(p, waiting("PodInitializing")) }), "Init:Error", 0, 1},
		{"init container's exit code", aPod("p", 1, func(p *v1.Pod) { initStatus(p, terminated("", 2, 0)) }), "Init:ExitCode:2", 0, 1},
		{"init container waits for its image", aPod("p", 1, func(p *v1.Pod) { initStatus(p, waiting("ImagePullBackOff")) }), "Init:ImagePullBackOff", 0, 1},
		{"init done", aPod("p", 1, func(p *v1.Pod) { initStatus(p, terminated("Completed", 0, 0)); runStatus(p, running) }), "Running", 1, 1},
		{"sidecar counts", aPod("p", 1, func(p *v1.Pod) {
			initStatus(p, running)
			p.Spec.InitContainers[0].RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
			p.Status.InitContainerStatuses[0].Started, p.Status.InitContainerStatuses[0].Ready = ptr.To(true), true
			runStatus(p, running)
		}), "Running", 2, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := summarise(tt.pod)
			if s.status != tt.word || s.ready != tt.ready || s.total != tt.total {
				t.Errorf("%d/%d %s, want %d/%d %s", s.ready, s.total, s.status, tt.ready, tt.total, tt.word)
			}
		})
	}
}

func TestRestartsOfInitContainersAreForgottenOnceTheyHaveSucceeded(t *testing.T) {
	p := aPod("p", 1, func(p *v1.Pod) { initStatus(p, terminated("Completed", 0, 0)); runStatus(p, running) })
	p.Status.InitContainerStatuses[0].RestartCount = 4
	p.Status.ContainerStatuses[0].RestartCount = 2
	if s := summarise(p); s.restarts != 2 {
		t.Errorf("restarts = %d, want the regular container's 2", s.restarts)
	}
	p.Status.InitContainerStatuses[0].State = running
	if s := summarise(p); s.restarts != 4 {
		t.Errorf("while initialising restarts = %d, want the init container's 4", s.restarts)
	}
}

// samplePods are in another order than they are shown.
func samplePods() *v1.PodList {
	return &v1.PodList{Items: []v1.Pod{
		*aPod("web-n1", 2, func(p *v1.Pod) {
			runStatus(p, running, running)
			p.CreationTimestamp = ago(3 * time.Hour)
			p.Status.ContainerStatuses[1].RestartCount = 3
			p.Status.ContainerStatuses[1].LastTerminationState.Terminated = &v1.ContainerStateTerminated{FinishedAt: ago(90 * time.Second)}
		}),
		*aPod("etcd-n1", 1, func(p *v1.Pod) {
			p.Namespace = "kube-system"
			p.Status.StartTime = ptr.To(ago(26 * time.Hour))
			p.Status.PodIP = ""
			runStatus(p, waiting("ImagePullBackOff"))
		}),
		*aPod("new-n1", 1, func(p *v1.Pod) { p.Status = v1.PodStatus{} }),
	}}
}

func TestPodsTable(t *testing.T) {
	for _, format := range []string{"", "wide", "name"} {
		var out, errOut bytes.Buffer
		if err := printPods(&out, &errOut, samplePods(), format, false, now); err != nil {
			t.Fatal(err)
		}
		golden(t, "pods"+format+".txt", out.String())
	}
}

// agentStub answers as the read-only port does.
func agentStub(t *testing.T) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pods" {
			http.NotFound(w, r)
			return
		}
		if err := json.NewEncoder(w).Encode(samplePods()); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// command runs one command line.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), code
}

func TestPodsCommand(t *testing.T) {
	server := agentStub(t)
	t.Run("namespace", func(t *testing.T) {
		out, errOut, code := command(t, "pods", "--server", server+"/", "-n", "kube-system", "-o", "name")
		if code != 0 || out != "pod/etcd-n1\n" {
			t.Errorf("%d %q %q", code, out, errOut)
		}
	})
	t.Run("one pod by name is an object, not a list", func(t *testing.T) {
		out, errOut, code := command(t, "pods", "web-n1", "--server", server, "-o", "yaml")
		var p v1.Pod
		if err := yaml.UnmarshalStrict([]byte(out), &p); err != nil || code != 0 || p.Kind != "Pod" || p.Name != "web-n1" {
			t.Errorf("%d %v %q %q", code, err, out, errOut)
		}
	})
	t.Run("JSON is a list", func(t *testing.T) {
		out, _, _ := command(t, "pods", "--server", server, "-o", "json")
		var list v1.PodList
		if err := json.Unmarshal([]byte(out), &list); err != nil || list.Kind != "PodList" || len(list.Items) != 3 || list.Items[0].Kind != "Pod" {
			t.Errorf("%v %s", err, out)
		}
	})
	t.Run("no pods", func(t *testing.T) {
		out, errOut, code := command(t, "pods", "--server", server, "-n", "none")
		if code != 0 || out != "" || errOut != "The agent runs no pods.\n" {
			t.Errorf("%d %q %q", code, out, errOut)
		}
	})
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"unknown pod":        {[]string{"pods", "absent", "--server", server}, `mini-kubelet: the agent has no pod "absent"; `},
		"unknown form":       {[]string{"pods", "-o", "xml"}, "mini-kubelet: -o xml: want one of wide, json, yaml, name"},
		"nobody listens":     {[]string{"pods", "--server", "http://127.0.0.1:1"}, "mini-kubelet: no agent answers at http://127.0.0.1:1: start mini-kubelet"},
		"not the agent":      {[]string{"pods", "--server", server + "/elsewhere"}, "answers 404 Not Found"},
		"no scheme":          {[]string{"pods", "--server", "127.0.0.1:10255"}, "--server 127.0.0.1:10255"},
		"unknown subcommand": {[]string{"frob"}, `unknown command "frob"`},
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, code := command(t, tt.args...)
			if code == 0 || out != "" || !strings.Contains(errOut, tt.want) || strings.Count(errOut, "\n") != 1 {
				t.Errorf("%d %q %q, want one line with %q", code, out, errOut, tt.want)
			}
		})
	}
}

// What an author of a pod or an image writes is shown, and not obeyed by the terminal.
func TestOutputHasNoTerminalEscapes(t *testing.T) {
	const evil = "a\x1b[2J\nfake\t\u009b31m"
	list := &v1.PodList{Items: []v1.Pod{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: evil},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "c", Image: evil}}},
		Status:     v1.PodStatus{Reason: evil, Message: evil},
	}}}
	for _, format := range []string{"", "wide", "name", "json", "yaml"} {
		var out bytes.Buffer
		w := visible.Lines(&out) // as run does
		if err := printPods(w, w, list, format, false, time.Now()); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(out.String(), "\x1b\u009b") || !strings.Contains(out.String(), "31m") {
			t.Errorf("-o %s: %q", format, out.String())
		}
		if n := strings.Count(out.String(), "\n"); format == "" && n != 2 || format == "name" && n != 1 {
			t.Errorf("-o %s has %d lines: %q", format, n, out.String())
		}
	}
}
