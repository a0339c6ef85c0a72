package integration

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagetar"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestAnImageDecidesNothing runs pods with images that claim, in every way an image
// can, to be somebody else's container, and compares what the node does with the same
// pod with a clean image.
func TestAnImageDecidesNothing(t *testing.T) {
	t.Parallel()
	docker := harness.Docker(t)
	proxy := harness.StartProxy(t, docker)
	a := harness.StartAgent(t, harness.AgentConfig{Endpoint: proxy.Endpoint})
	victim := newVictim(t, a)
	trap := newTrap(t)
	imageLife(t, a, proxy, victim, "first", harness.Busybox) // which has the sandbox image loaded
	clean := imageLife(t, a, proxy, victim, "clean", harness.Busybox)
	for name, metadata := range map[string]string{
		// A log file of a container in another directory, and one whose link's name is so
		// long that the container's id is cut off.
		"log":  `{"container":"../../victim","pod":"x","namespace":"y","uid":"z","attempt":7}`,
		"link": `{"container":"/../../../../../../../..` + strings.Repeat("/.", 200) + victim.dir + `/important","pod":"x","namespace":"y","uid":"z","attempt":7}`,
		"who":  `{"container":"other","pod":"victim","namespace":"kube-system","uid":"11111111-1111-1111-1111-111111111111","attempt":7}`,
	} {
		labels := hostileLabels(a, victim.dir, trap.address, metadata)
		for kind, make := range map[string]func(*testing.T, *harness.Dockerd, string, map[string]string){"built": buildHostile, "written": writeHostile} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				ref := fmt.Sprintf("hostile.test/%s-%s:%s", name, kind, a.Node)
				make(t, docker, ref, labels)
				t.Cleanup(func() { removeImage(t, docker, ref) })
				pod := "hostile-" + name + "-" + kind
				got := imageLife(t, a, proxy, victim, pod, ref)
				if got != clean {
					t.Errorf("of a clean image:\n%s\nof the hostile one:\n%s", clean, got)
				}
			})
		}
	}
	// Docker would repeat it for each container in every list, or say no more about the
	// container: runc's error, which holds a program's name, would fill a pipe.
	volumes := map[string]struct{}{}
	for i := range 300 {
		volumes[fmt.Sprintf("/v/%d", i)] = struct{}{}
	}
	labels := map[string]string{}
	for i := range 1100 {
		labels[fmt.Sprint(i)] = ""
	}
	long := strings.Repeat("x", 100<<10)
	for name, tc := range map[string]struct {
		config  ocispec.ImageConfig
		command []string
		message string
	}{
		"very-long-label": {ocispec.ImageConfig{Labels: map[string]string{"long": strings.Repeat(long, 20)}}, []string{"sh"}, "longer than 1 MiB"},
		"huge-label":      {ocispec.ImageConfig{Labels: map[string]string{"long": strings.Repeat(long, 100)}}, []string{"sh"}, "longer than 8 MiB"},
		"long-label":      {ocispec.ImageConfig{Labels: map[string]string{"long": strings.Repeat(long, 3)}}, []string{"sh"}, "longer than 1 MiB"},
		"many-labels":     {ocispec.ImageConfig{Labels: labels}, []string{"sh"}, "longer than 1 MiB"},
		"long-user":       {ocispec.ImageConfig{User: strings.Repeat(long, 20)}, []string{"sh"}, "longer than 1 MiB"},
		"nul-in-env":      {ocispec.ImageConfig{Env: []string{long + "=a\x00"}}, []string{"sh"}, "a NUL in its environment"},
		"many-words":      {ocispec.ImageConfig{Cmd: make([]string, 1<<20)}, []string{"sh"}, "longer than 1 MiB"},
		"many-volumes":    {ocispec.ImageConfig{Volumes: volumes}, []string{"sh"}, "longer than 1 MiB"},
		"long-cmd":        {ocispec.ImageConfig{Cmd: []string{long}}, nil, "longer than a path"},
		"long-entrypoint": {ocispec.ImageConfig{Entrypoint: []string{long}, Cmd: []string{"x"}}, nil, "longer than a path"},
		"blank-entry":     {ocispec.ImageConfig{Entrypoint: []string{""}, Cmd: []string{long}}, nil, "longer than a path"},
		"long-command":    {ocispec.ImageConfig{}, []string{long}, "config.command[0]: is 102400 bytes long"},
	} {
		t.Run(name, func(t *testing.T) {
			ref := "hostile.test/" + name + ":" + a.Node
			img := harness.BusyboxImage(t, ref)
			img.Config = tc.config
			if _, err := imagetar.Load(t.Context(), docker.Client, img); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { removeImage(t, docker, ref) })
			a.Write(name+".yaml", harness.Pod(name, "", func(p *v1.Pod) {
				p.Spec.Containers[0].Image, p.Spec.Containers[0].Command, p.Spec.Containers[0].Args = ref, tc.command, nil
			}))
			a.WaitPod(name, "is refused: "+tc.message, func(p *v1.Pod) bool {
				w := harness.Status(p, "c").State.Waiting
				return w != nil && strings.Contains(w.Message, tc.message)
			})
			a.Remove(name + ".yaml")
			a.WaitGone(name)
		})
	}
	t.Run("beside the agent", func(t *testing.T) {
		// A container that somebody runs by hand is none of the agent's, whatever its image says.
		ref := "hostile.test/bystander:" + a.Node
		labels := hostileLabels(a, victim.dir, trap.address, `{"container":"c","pod":"p","namespace":"default","uid":"u","attempt":1}`)
		labels["io.mini-kubelet.keys"] = allKeys(labels)
		writeHostile(t, docker, ref, labels)
		t.Cleanup(func() { removeImage(t, docker, ref) })
		by, err := docker.Client.ContainerCreate(t.Context(), &container.Config{Image: ref, Cmd: []string{"-c", "sleep 1000"}}, nil, nil, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = docker.Client.ContainerRemove(context.Background(), by.ID, container.RemoveOptions{Force: true})
		})
		if err := docker.Client.ContainerStart(t.Context(), by.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		imageLife(t, a, proxy, victim, "after-bystander", harness.Busybox)
		a.Kill()
		a.Start()
		imageLife(t, a, proxy, victim, "after-restart", harness.Busybox)
		if r, err := docker.Client.ContainerInspect(t.Context(), by.ID); err != nil || !r.State.Running {
			t.Errorf("the bystander does not run any more: %v", err)
		}
	})
	if n := trap.requests.Load(); n != 0 {
		t.Errorf("%d requests were made that only an image asked for", n)
	}
}

// imageLife runs a pod with that image through its life: start, restart, removal. It
// returns what the node did and reported, without what differs from pod to pod.
func imageLife(t *testing.T, a *harness.Agent, proxy *harness.Proxy, victim *victim, name, ref string) string {
	t.Helper()
	proxy.Forget()
	pod := harness.Pod(name, "", func(p *v1.Pod) { p.Spec.Containers[0].Image = ref })
	a.Write(name+".yaml", pod)
	first := a.WaitRunning(name)
	old := harness.ID(harness.Status(first, "c").ContainerID)
	created, err := a.Docker.Client.ContainerInspect(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Docker.Client.ContainerKill(t.Context(), old, "KILL"); err != nil {
		t.Fatal(err)
	}
	second := a.WaitPod(name, "is restarted", func(p *v1.Pod) bool {
		return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1
	})
	if running, err := a.Running(name); err != nil || len(running) != 2 {
		t.Errorf("running: %v, %v; want the sandbox and one container", running, err)
	}
	all, err := a.ContainersOf(name)
	if err != nil {
		t.Fatal(err)
	}
	a.Remove(name + ".yaml")
	a.WaitGone(name)
	victim.check(t)
	host := created.HostConfig
	host.ContainerIDFile = ""
	var calls []string
	for _, c := range proxy.Calls() {
		if c.Changes() {
			calls = append(calls, hexID.ReplaceAllString(c.String(), "*"))
		}
	}
	slices.Sort(calls)
	st := second.Status
	for i := range st.ContainerStatuses {
		c := &st.ContainerStatuses[i]
		c.Image, c.ImageID = "", ""
		c.StopSignal = nil // an image may choose it (status.containerStatuses.stopSignal)
	}
	story := map[string]any{"containers": len(all), "hostConfig": host, "calls": calls, "status": st, "labels": second.Labels, "annotations": second.Annotations}
	text, err := json.MarshalIndent(story, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return indifferent(string(text), name, string(first.UID))
}

var (
	hexID   = regexp.MustCompile(`[0-9a-f]{64}|\b[0-9a-f]{32}\b`)
	instant = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`)
	address = regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+\b`)
	digits  = regexp.MustCompile(`"kubernetes.io/config.seen": "[^"]*"`)
)

// indifferent replaces what two pods cannot have in common.
func indifferent(text, name, uid string) string {
	text = strings.NewReplacer(uid, "UID", name, "NAME").Replace(text)
	for _, r := range []*regexp.Regexp{hexID, instant, address, digits} {
		text = r.ReplaceAllString(text, "*")
	}
	return text
}

// victim is a directory of the host whose files nobody may touch.
type victim struct {
	dir    string
	before map[string]string
}

func newVictim(t *testing.T, a *harness.Agent) *victim {
	t.Helper()
	// Where "../../victim" leads to from a pod's log directory, and beside it.
	v := &victim{dir: filepath.Join(a.Dir, "victim"), before: map[string]string{}}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{v.dir, filepath.Join(a.Dir, "logs", "victim")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"7.log", "7.log.20261128", "important.log", "0.log", "passwd"} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
				t.Fatal(err)
			}
			v.before[path] = "precious"
		}
	}
	return v
}

func (v *victim) check(t *testing.T) {
	t.Helper()
	for path, content := range v.before {
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// trap counts the requests that are made because an image says so.
type trap struct {
	address  string
	requests atomic.Int64
}

func newTrap(t *testing.T) *trap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &trap{address: l.Addr().String()}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { tr.requests.Add(1) })}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-ended
	})
	return tr
}

// hostileLabels returns all labels that have a meaning for the node, and some more.
func hostileLabels(a *harness.Agent, victim, trap, metadata string) map[string]string {
	host, port, _ := net.SplitHostPort(trap)
	hook := fmt.Sprintf(`{"httpGet":{"host":%q,"port":%s,"path":"/"}}`, host, port)
	labels := map[string]string{
		"io.kubernetes.docker.type": "podsandbox", "io.kubernetes.sandbox.id": strings.Repeat("0", 64),
		"io.kubernetes.container.logpath": victim + "/passwd", "io.kubernetes.container.name": "../../victim",
		"io.kubernetes.pod.name": "victim", "io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.uid": "../..",
		"io.mini-kubelet.state-dir": filepath.Join(a.Dir, "shim"), "io.mini-kubelet.keys": `["io.mini-kubelet.metadata"]`,
		"io.mini-kubelet.created": "1", "io.mini-kubelet.runtime-handler": "../../bin/sh", "io.mini-kubelet.pid": "NODE",
		"io.mini-kubelet.image": "../../x", "io.mini-kubelet.cgroup": `{"../../..":"1"}`,
		"io.mini-kubelet.image-volumes":           `[{"path":"/etc/hosts","named":"x","id":"sha256:../..","subPath":"../.."}]`,
		"annotation.io.kubernetes.container.hash": "deadbeef", "annotation.io.kubernetes.container.restartCount": "99",
		"annotation.io.kubernetes.container.terminationMessagePath":   "/etc/passwd",
		"annotation.io.kubernetes.container.terminationMessagePolicy": "FallbackToLogsOnError",
		"annotation.io.kubernetes.container.preStopHandler":           hook,
		"annotation.io.kubernetes.container.ports":                    `[{"name":"x","containerPort":1,"hostPort":22}]`,
		"annotation.io.kubernetes.pod.terminationGracePeriod":         "9999",
		"annotation.io.kubernetes.pod.deletionGracePeriod":            "9999",
		"annotation.io.mini-kubelet.pod-start-time":                   "1970-01-01T00:00:00Z",
		"annotation.kubernetes.io/ingress-bandwidth":                  "1k",
		"label.io.kubernetes.pod.uid":                                 "11111111-1111-1111-1111-111111111111",
		"label.io.mini-kubelet.state-dir":                             "/",
		"io.mini-kubelet.metadata":                                    metadata,
		"a/label\nwith \x1b[2J $(reboot) `reboot` {{.}} %s":           strings.Repeat("x", 1<<16),
	}
	return labels
}

func allKeys(labels map[string]string) string {
	var keys []string
	for k := range labels {
		keys = append(keys, k)
	}
	text, _ := json.Marshal(keys)
	return string(text)
}

// buildHostile builds the image in the usual way, with everything that a Dockerfile
// can say except what its programs do.
func buildHostile(t *testing.T, d *harness.Dockerd, ref string, labels map[string]string) {
	t.Helper()
	var file strings.Builder
	fmt.Fprintf(&file, `FROM %s
ENV PATH=/bin HOSTNAME=x KUBERNETES_SERVICE_HOST=203.0.113.1 LD_PRELOAD=/x DOCKER_HOST=tcp://203.0.113.1:1 HTTP_PROXY=http://203.0.113.1:1
VOLUME ["/etc", "/var/log/pods", "/dev/termination-log", "/data"]
WORKDIR /proc/self/fd
EXPOSE 1-100 10250 22/udp
STOPSIGNAL 9
HEALTHCHECK --interval=1s --timeout=1s --retries=1 CMD kill 1
SHELL ["/bin/false"]
ONBUILD RUN reboot
ENTRYPOINT ["/bin/false", "$(reboot)"]
CMD ["--help"]
`, harness.Busybox)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(file.Len())}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, file.String()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := d.Client.ImageBuild(t.Context(), &archive, build.ImageBuildOptions{Tags: []string{ref}, Labels: labels, Remove: true, ForceRemove: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	out, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Client.ImageInspect(t.Context(), ref); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// writeHostile writes the image with contents that no builder would accept.
func writeHostile(t *testing.T, d *harness.Dockerd, ref string, labels map[string]string) {
	t.Helper()
	img := harness.BusyboxImage(t, ref)
	img.Config = ocispec.ImageConfig{
		User: "0:0", Env: []string{"PATH=/bin", "NOTHING", "A=\n\x1b[2J"}, Entrypoint: []string{"/bin/sh"}, Cmd: []string{"-c", "exit 1"},
		WorkingDir: "/../../..", StopSignal: "SIGRTMAX-1/../..", Labels: labels,
		Volumes:      map[string]struct{}{"/dev/termination-log": {}, "/etc/../data": {}},
		ExposedPorts: map[string]struct{}{"10250/tcp": {}, "1/sctp": {}},
	}
	if _, err := imagetar.Load(t.Context(), d.Client, img); err != nil {
		t.Fatal(err)
	}
}

func removeImage(t *testing.T, d *harness.Dockerd, ref string) {
	t.Helper()
	if _, err := d.Client.ImageRemove(context.Background(), ref, image.RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}
