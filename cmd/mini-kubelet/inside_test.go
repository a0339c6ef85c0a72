package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/ownsocket"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func somePod(namespace, name string, static bool) v1.Pod {
	p := v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1.PodSpec{NodeName: "n1"}}
	if static {
		p.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceFile}
	}
	return p
}

func TestWhichPodIsMeant(t *testing.T) {
	ending := somePod("shop", "old-n1", true)
	ending.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	ending.UID = "ending"
	all := []v1.Pod{
		somePod("default", "web-n1", true), somePod("shop", "web-n1", true), somePod("shop", "db-n1", true), somePod("shop", "db", false),
		somePod("default", "cache-n1", true), somePod("default", "api-n1", false), ending, somePod("shop", "old-n1", true),
	}
	for _, tt := range []struct {
		namespace, name string
		want            string // or what the error says
	}{
		{"", "cache-n1", "default/cache-n1"},
		{"", "cache", "default/cache-n1"},
		{"", "pod/cache", "default/cache-n1"},
		{"shop", "web", "shop/web-n1"},
		{"", "web", "several pods, default/web-n1, shop/web-n1"},
		{"", "db", "shop/db"},
		{"", "old", "shop/old-n1"},
		{"", "api", "near it: default/api-n1"},
		{"", "cahce", "near it: default/cache-n1"},
		{"shop", "cache", `no pod "cache" in namespace "shop"`},
		{"", "nothing-like-it", "`mini-kubelet pods` lists"},
		{"", strings.Repeat("x", 1<<20), "lists those it has"},
		{"", "", "no pod"},
	} {
		got := ""
		p, err := findPod(all, tt.namespace, tt.name)
		if err != nil {
			got = err.Error()
		} else if got = p.Namespace + "/" + p.Name; got != tt.want || p.UID == "ending" {
			t.Errorf("%s %.20s: %s (%s), want %s", tt.namespace, tt.name, got, p.UID, tt.want)
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s %.20s: %.200s, want %s", tt.namespace, tt.name, got, tt.want)
		}
	}
}

func TestWhichContainerIsMeant(t *testing.T) {
	p := v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "a"}, {Name: "b"}}, InitContainers: []v1.Container{{Name: "i"}}}}
	annotated := *p.DeepCopy()
	annotated.Annotations = map[string]string{defaultContainer: "b"}
	wrong := *p.DeepCopy()
	wrong.Annotations = map[string]string{defaultContainer: "none"}
	single := v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "a"}}}}
	for _, tt := range []struct {
		pod              v1.Pod
		name, want, note string
	}{
		{p, "", "a", `Defaulted container "a" out of: a, b, i`}, {p, "b", "b", ""}, {p, "i", "i", ""}, {p, "x", "", ""},
		{annotated, "", "b", ""}, {annotated, "a", "a", ""}, {wrong, "", "a", `Defaulted container "a" out of: a, b, i`},
		{single, "", "a", ""}, {v1.Pod{}, "", "", ""},
	} {
		got, note, err := chooseContainer(&tt.pod, tt.name)
		if got != tt.want || note != tt.note || (err == nil) != (tt.want != "") {
			t.Errorf("%q of %v: %q, %q, %v", tt.name, containerNames(&tt.pod), got, note, err)
		}
	}
}

func TestPortNumbers(t *testing.T) {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Ports: []v1.ContainerPort{{Name: "http", ContainerPort: 80}, {ContainerPort: 1}}}}}}
	p.Spec.InitContainers = []v1.Container{{Ports: []v1.ContainerPort{{Name: "sidecar", ContainerPort: 90}}}}
	for spec, want := range map[string]string{
		"8080": "8080:8080", "8080:80": "8080:80", "8080:http": "8080:80", ":http": ":80", "http": "80:80", ":80": ":80", "sidecar": "90:90",
		"": "", "8080:": "", "0": "", "65536": "", "https": "", "8080:https": "", "-1": "",
	} {
		got, err := portNumbers(p, []string{spec})
		if err != nil && want != "" || err == nil && !reflect.DeepEqual(got, []string{want}) {
			t.Errorf("%q: %q, %v, want %q", spec, got, err, want)
		}
	}
}

func TestHowLogsAreAskedFor(t *testing.T) {
	for _, tt := range []struct {
		f    logFlags
		want string // "" is an error
	}{
		{logFlags{tail: -1, follow: true}, "follow=true"},
		{logFlags{tail: 0, previous: true, timestamps: true}, "previous=true&tailLines=0&timestamps=true"},
		{logFlags{tail: -1, since: 1500 * time.Millisecond, limit: 7}, "limitBytes=7&sinceSeconds=2"},
		{logFlags{tail: -1, sinceTime: "2026-01-01T00:00:00Z"}, "sinceTime=2026-01-01T00%3A00%3A00Z"},
		{logFlags{tail: -2}, ""}, {logFlags{tail: -1, limit: -1}, ""}, {logFlags{tail: -1, since: -1}, ""},
		{logFlags{tail: -1, sinceTime: "yesterday"}, ""}, {logFlags{tail: -1, since: 1, sinceTime: "2026-01-01T00:00:00Z"}, ""},
		{logFlags{tail: -1, all: true, container: "c"}, ""},
	} {
		q, err := tt.f.query()
		if (err != nil) != (tt.want == "") || q.Encode() != tt.want {
			t.Errorf("%+v: %s, %v, want %s", tt.f, q.Encode(), err, tt.want)
		}
	}
}

func TestWhetherALogGoesOn(t *testing.T) {
	running := v1.ContainerState{Running: &v1.ContainerStateRunning{}}
	waiting := v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	ended := func(code int32) v1.ContainerState {
		return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: code}}
	}
	for _, tt := range []struct {
		name   string
		policy v1.RestartPolicy
		state  v1.ContainerState
		phase  v1.PodPhase
		want   bool
	}{
		{"not seen yet that it ended", v1.RestartPolicyNever, running, v1.PodRunning, true},
		{"waits", v1.RestartPolicyAlways, waiting, v1.PodRunning, true},
		{"always", v1.RestartPolicyAlways, ended(0), v1.PodRunning, true},
		{"on failure, failed", v1.RestartPolicyOnFailure, ended(1), v1.PodRunning, true},
		{"on failure, done", v1.RestartPolicyOnFailure, ended(0), v1.PodRunning, false},
		{"never", v1.RestartPolicyNever, ended(1), v1.PodRunning, false},
		{"the pod is over", v1.RestartPolicyAlways, ended(1), v1.PodFailed, false},
	} {
		p := &v1.Pod{
			Spec:   v1.PodSpec{RestartPolicy: tt.policy, Containers: []v1.Container{{Name: "c"}}},
			Status: v1.PodStatus{Phase: tt.phase, ContainerStatuses: []v1.ContainerStatus{{Name: "c", State: tt.state}}},
		}
		if got := mayRestart(p, "c"); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
		p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, nil
		p.Status.InitContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
		if tt.name == "always" && mayRestart(p, "c") {
			t.Error("an init container that has succeeded is waited for")
		}
		sidecar := v1.ContainerRestartPolicyAlways
		p.Spec.InitContainers[0].RestartPolicy = &sidecar
		if tt.name == "never" && !mayRestart(p, "c") {
			t.Error("a sidecar is not waited for")
		}
	}
}

func TestLinesOfSeveralLogsStayWhole(t *testing.T) {
	var out bytes.Buffer
	mu := &sync.Mutex{}
	a, b := &prefixed{to: &out, mu: mu, prefix: "a "}, &prefixed{to: &out, mu: mu, prefix: "b "}
	for _, w := range []struct {
		to   *prefixed
		text string
	}{{a, "one"}, {b, "x\ny"}, {a, " more\ntwo\n"}, {b, strings.Repeat("z", maxLine)}} {
		if n, err := w.to.Write([]byte(w.text)); n != len(w.text) || err != nil {
			t.Fatal(n, err)
		}
	}
	_, _ = b.Write([]byte("end"))
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	if want := "b x\na one more\na two\nb y" + strings.Repeat("z", maxLine) + "b end"; out.String() != want {
		t.Errorf("%.60q", out.String())
	}
}

func TestTop(t *testing.T) {
	cpu := &stats.CPUStats{UsageNanoCores: ptr.To[uint64](250_000_001)}
	memory := &stats.MemoryStats{WorkingSetBytes: ptr.To[uint64](100 << 20), AvailableBytes: ptr.To[uint64](300 << 20)}
	s := &stats.Summary{
		Node: stats.NodeStats{NodeName: "n1", CPU: cpu, Memory: memory},
		Pods: []stats.PodStats{
			{PodRef: stats.PodReference{Namespace: "b", Name: "p"}, CPU: cpu, Memory: memory, Containers: []stats.ContainerStats{{Name: "z", CPU: cpu}, {Name: "c", Memory: memory}}},
			{PodRef: stats.PodReference{Namespace: "a", Name: "q"}},
		},
	}
	for _, tt := range []struct {
		name string
		got  any
		want any
	}{
		{"node", nodeRow(s, 2), []string{"n1", "251m", "12%", "100Mi", "25%"}},
		{"a node that says little", nodeRow(&stats.Summary{Node: stats.NodeStats{NodeName: "n1", CPU: cpu}}, 0), []string{"n1", "251m", unknown, unknown, unknown}},
		{"pods", podRows(s.Pods, "", false), [][]string{{"a", "q", unknown, unknown}, {"b", "p", "251m", "100Mi"}}},
		{"containers", podRows(s.Pods, "b", true), [][]string{{"b", "p", "c", unknown, "100Mi"}, {"b", "p", "z", "251m", unknown}}},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	header := http.Header{"Content-Type": {"text/plain; version=0.0.4; charset=utf-8"}}
	for text, want := range map[string]float64{"# TYPE a gauge\na 1\n# TYPE machine_cpu_cores gauge\nmachine_cpu_cores{boot_id=\"x\"} 8\n": 8, "": 0, "rubbish": 0} {
		if got := coresIn(strings.NewReader(text), header); got != want {
			t.Errorf("%q: %v cores, want %v", text, got, want)
		}
	}
}

func TestEventsAreChosenAndShown(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	e := v1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, InvolvedObject: v1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "web-n1"},
		Type: v1.EventTypeWarning, Reason: "BackOff", Message: "again\n", FirstTimestamp: ago(2 * time.Minute), LastTimestamp: ago(5 * time.Second), Count: 3,
	}
	if got, want := eventRow(&e, now), []string{"shop", "5s (x3 over 2m)", "Warning", "BackOff", "Pod/web-n1", "again"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, tt := range []struct {
		w    eventFilter
		want bool
	}{
		{eventFilter{}, true}, {eventFilter{namespace: "shop"}, true}, {eventFilter{namespace: "other"}, false},
		{eventFilter{kinds: []string{"warning"}}, true}, {eventFilter{kinds: []string{"Normal"}}, false},
		{eventFilter{pod: func(*v1.Event) bool { return false }}, false},
	} {
		if got := tt.w.has(&e); got != tt.want {
			t.Errorf("%+v: %v", tt.w, got)
		}
	}
}

func TestWhatAnHTTPStatusMeans(t *testing.T) {
	c, err := (&connection{server: "https://node:10250/"}).client()
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[int]string{401: "--client-certificate", 403: "does not allow that: why", 405: "enableDebuggingHandlers", 500: "why"} {
		if err := c.refused("/x", code, "why"); !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %s", code, err, want)
		}
	}
	for _, server := range []string{"node:10250", "ftp://node", "https://", ":"} {
		if _, err := (&connection{server: server}).client(); err == nil {
			t.Errorf("--server %s was accepted", server)
		}
	}
}

func TestAttachGoesByWhatTheContainerHas(t *testing.T) {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "shell", TTY: true, Stdin: true}, {Name: "c"}}}}
	for _, tt := range []struct {
		container       string
		a               attached
		query           string
		raw, complained bool
	}{
		{"shell", attached{stdin: true, tty: true, raw: true}, "input=1&output=1&tty=1", true, false},
		{"shell", attached{stdin: true}, "input=1&output=1&tty=1", false, false},
		{"shell", attached{}, "output=1&tty=1", false, false},
		{"c", attached{stdin: true, tty: true, raw: true}, "error=1&input=1&output=1", false, true},
		{"c", attached{}, "error=1&output=1", false, false},
	} {
		note := tt.a.runsIn(p, tt.container)
		if got := tt.a.query().Encode(); got != tt.query || tt.a.raw != tt.raw || (note != "") != tt.complained {
			t.Errorf("%s: %s, raw %v, %q, want %+v", tt.container, got, tt.a.raw, note, tt)
		}
	}
}

// silentAgent has one pod, and answers nothing about it.
func silentAgent(t *testing.T) (root string, asked chan string) {
	t.Helper()
	root, asked = t.TempDir(), make(chan string, 10)
	l, err := ownsocket.Listen(t.Context(), config.LocalSocket(root))
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/pods" {
			p := somePod("default", "web", false)
			p.Spec.Containers, p.Status.Phase = []v1.Container{{Name: "c"}}, v1.PodRunning
			_ = json.NewEncoder(w).Encode(v1.PodList{Items: []v1.Pod{p}})
			return
		}
		asked <- r.URL.Path
		<-end
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		close(end)
		_ = s.Close()
		<-done
	})
	return root, asked
}

func TestASignalEndsACommandWhoseAgentIsSilent(t *testing.T) {
	root, asked := silentAgent(t)
	for _, args := range [][]string{
		{"logs", "web"}, {"logs", "-f", "web"}, {"exec", "web", "--root-dir", root, "--", "true"}, {"attach", "web"}, {"port-forward", "web", ":80"}, {"events"},
		{"events", "-w"}, {"top"}, {"why"},
	} {
		if args[0] != "exec" {
			args = append(args, "--root-dir", root)
		}
		t.Run(args[0], func(t *testing.T) {
			ctx, interrupt := context.WithCancelCause(t.Context())
			var out, errOut bytes.Buffer
			ended := make(chan int, 1)
			go func() { ended <- run(ctx, args, strings.NewReader(""), &out, &errOut) }()
			select {
			case <-asked:
			case code := <-ended:
				t.Fatalf("ended by itself with %d: %s", code, &errOut)
			}
			interrupt(errors.New("as a signal does"))
			if code := <-ended; code != interrupted.code || out.Len()+errOut.Len() > 0 {
				t.Errorf("%v: %d, %s%s", args, code, &out, &errOut)
			}
		})
	}
}

func TestWhoIsTurnedAwayAtTheSocketIsToldWhy(t *testing.T) {
	root := t.TempDir()
	l, err := ownsocket.Listen(t.Context(), config.LocalSocket(root))
	if err != nil {
		t.Fatal(err)
	}
	testrun.Accept(t, l, func(c net.Conn) { c.Close() })
	for _, args := range [][]string{
		{"events"}, {"events", "-w"}, {"top"}, {"logs", "web"}, {"logs", "-f", "web"}, {"attach", "web"}, {"port-forward", "web", ":80"}, {"exec", "web", "--", "true"},
	} {
		args = slices.Insert(args, 1, "--root-dir", root)
		t.Run(strings.Join(slices.Delete(slices.Clone(args), 1, 3), " "), func(t *testing.T) {
			for range 50 { // who is faster decides which error it is
				var errOut bytes.Buffer
				if code := run(t.Context(), args, strings.NewReader(""), &errOut, &errOut); code != 1 || !strings.Contains(errOut.String(), "only root of this machine may use it") {
					t.Fatalf("%d: %s", code, &errOut)
				}
			}
		})
	}
}
