package pods

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// interval is how often a wait checks.
const interval = 100 * time.Millisecond

// patience is how long a wait may take.
const patience = harness.Patience

// within calls cond until it returns nil, and returns its last error when patience
// has run out.
func within(ctx context.Context, cond func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(interval) {
		err := cond()
		if err == nil {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("gave up waiting: %w", err)
		}
	}
}

// run plays a case at a place: in the end, what is expected must be so.
func (c testCase) run(t *testing.T, at place, known map[string]string) {
	ctx := t.Context()
	if !c.possible(t) {
		t.Skipf("this host is not one with %s", c.want.Needs)
	}
	namespace, remove, err := at.namespace(ctx, c.name)
	if remove != nil {
		t.Cleanup(remove)
	}
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	docker, err := at.agent().Docker.Client.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	known = maps.Clone(known)
	maps.Copy(known, map[string]string{
		"DOCKER_ROOT": docker.DockerRootDir, "ABOVE_DOCKER_ROOT": filepath.Dir(docker.DockerRootDir),
		"DIR": dir, "NAMESPACE": namespace, "NODE": at.agent().Node, "PORT": hostPort(t), "AGENT_LOG": at.agent().LogPath(),
	})
	r := &runner{testCase: c, at: at, namespace: namespace, dir: dir, known: known}
	if c.want.Teardown != "" {
		t.Cleanup(func() {
			if out, err := r.shell(context.Background(), c.want.Teardown, r.known); err != nil {
				t.Errorf("teardown: %v: %s", err, out)
			}
		})
	}
	if c.want.Setup != "" {
		// A mount would outlive the directory's removal.
		t.Cleanup(func() {
			_ = exec.Command("sh", "-c", "! grep -q ' "+dir+"/' /proc/mounts || umount -R "+dir+"/*").Run()
		})
		if out, err := r.shell(ctx, c.want.Setup, r.known); err != nil {
			t.Fatalf("setup: %v: %s", err, out)
		}
	}
	t.Cleanup(func() {
		// What still starts would make its host paths again, after the directory is gone.
		if t.Failed() || len(c.want.Removed) == 0 && strings.Contains(c.manifest, "${DIR}") {
			if err := r.gone(context.Background()); err != nil {
				t.Log(err)
			}
		}
	})
	objects, err := documents(r.fill(c.manifest, r.known))
	if err == nil {
		err = at.create(ctx, namespace, objects)
	}
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.want.Pods)) {
		if err := r.meets(ctx, name, c.want.Pods[name]); err != nil {
			t.Fatalf("pod %s: %v\n%s", name, err, r.explain(ctx, name))
		}
	}
	if len(c.want.Removed) > 0 {
		if err := r.removed(ctx); err != nil {
			t.Error(err)
		}
	}
	at.agent().CheckJournal(t)
}

// runner is a case that is being played.
type runner struct {
	testCase
	at             place
	namespace, dir string
	known          map[string]string // what texts may refer to
}

// fill puts known values into a text.
func (r *runner) fill(text string, known map[string]string) string {
	for name, value := range known {
		text = strings.ReplaceAll(text, "${"+name+"}", value)
	}
	return text
}

// meets waits until all that is expected of a pod is so.
func (r *runner) meets(ctx context.Context, name string, w podWant) error {
	var pod *v1.Pod
	err := within(ctx, func() (err error) {
		if pod, err = r.at.pod(ctx, r.namespace, name); err != nil {
			return err
		}
		if pod == nil {
			return errors.New("there is no such pod")
		}
		known := r.facts(ctx, pod)
		return r.status(w, pod, known)
	})
	if err != nil {
		return err
	}
	known := r.facts(ctx, pod)
	for _, e := range w.Events {
		if err := within(ctx, func() error { return r.hasEvent(ctx, pod, e, known) }); err != nil {
			return err
		}
	}
	for container, asks := range w.In {
		id := harness.ID(harness.Status(pod, container).ContainerID)
		for _, a := range asks {
			if err := within(ctx, func() error {
				out, err := r.inside(ctx, id, a.Sh)
				return answer("in "+container+": "+a.Sh, out, err, r.fill(a.Says, known))
			}); err != nil {
				return err
			}
		}
	}
	for _, a := range w.Host {
		if err := within(ctx, func() error {
			out, err := r.shell(ctx, a.Sh, known)
			return answer(a.Sh, out, err, r.fill(a.Says, known))
		}); err != nil {
			return err
		}
	}
	if err := within(ctx, func() error { return r.why(ctx, pod, w.Why, known) }); err != nil {
		return err
	}
	for _, reason := range w.Never {
		if r.hasEvent(ctx, pod, eventWant{Reason: reason}, known) == nil {
			return fmt.Errorf("it has an event %s", reason)
		}
	}
	return nil
}

// gone removes the pods and waits until there are none.
func (r *runner) gone(ctx context.Context) error {
	if err := r.at.remove(ctx, r.namespace); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	for name := range r.want.Pods {
		if err := within(ctx, func() error {
			pod, err := r.at.pod(ctx, r.namespace, name)
			if pod != nil {
				return errors.New("pod " + name + " is still there")
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// removed removes the pods and checks what is left.
func (r *runner) removed(ctx context.Context) error {
	if err := r.gone(ctx); err != nil {
		return err
	}
	for _, a := range r.want.Removed {
		if err := within(ctx, func() error {
			out, err := r.shell(ctx, a.Sh, r.known)
			return answer(a.Sh, out, err, r.fill(a.Says, r.known))
		}); err != nil {
			return err
		}
	}
	return nil
}

// facts returns what is known once the pod runs.
func (r *runner) facts(ctx context.Context, pod *v1.Pod) map[string]string {
	known := maps.Clone(r.known)
	known["POD"], known["POD_UID"] = pod.Name, string(pod.UID)
	known["POD_IP"], known["HOST_IP"] = pod.Status.PodIP, pod.Status.HostIP
	known["VOLUMES"] = filepath.Join(r.at.agent().Dir, "root", "pods", string(pod.UID), "volumes")
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses) {
		if s.State.Running == nil {
			continue
		}
		id := harness.ID(s.ContainerID)
		if c, err := r.at.agent().Docker.Client.ContainerInspect(ctx, id); err == nil {
			name := strings.ReplaceAll(s.Name, "-", "_")
			known["ID_"+name], known["PID_"+name] = id, strconv.Itoa(c.State.Pid)
		}
	}
	return known
}

// shell runs shell lines on the host, in the case's directory.
func (r *runner) shell(ctx context.Context, lines string, known map[string]string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", lines)
	cmd.Dir, cmd.Env = r.dir, os.Environ()
	for name, value := range known {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// explain returns what is seen of a pod, for a failure.
func (r *runner) explain(ctx context.Context, name string) string {
	var b strings.Builder
	pod, err := r.at.pod(ctx, r.namespace, name)
	if pod == nil {
		for line := range strings.Lines(r.at.agent().Log()) {
			if strings.Contains(line, r.namespace) && strings.Contains(line, "err=") {
				b.WriteString("  log: " + line)
			}
		}
		return fmt.Sprintf("not found: %v\n%s", err, b.String())
	}
	known, err := r.at.events(ctx, pod)
	for _, e := range known {
		fmt.Fprintf(&b, "  event %s: %s\n", e.reason, e.message)
	}
	if err != nil {
		fmt.Fprintf(&b, "  events: %v\n", err)
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses) {
		fmt.Fprintf(&b, "  log of %s: %q\n", s.Name, r.log(pod, s.Name))
	}
	return b.String()
}

// canPrivileged reports whether this process has all capabilities there are, so that
// Docker can give them to a container.
// possible reports whether the host can do what the case needs.
func (c testCase) possible(t *testing.T) bool {
	switch c.want.Needs {
	case "":
		return true
	case "loop":
		return exec.Command("losetup", "-f").Run() == nil
	}
	return (c.want.Needs == "privileged") == canPrivileged(t)
}

func canPrivileged(t *testing.T) bool {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(last)))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(status), fmt.Sprintf("CapBnd:\t%016x\n", uint64(1)<<(n+1)-1))
}

// hostPort returns a port that nobody listens on.
func hostPort(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(harness.FreePort(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}
