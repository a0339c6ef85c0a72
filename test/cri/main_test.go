// Package cri is a test-suite for container runtimes: every case calls CRI v1 on a
// socket and looks at real containers. It runs the same against the dockershim on
// a private Docker daemon and against a private containerd; a case that concerns
// only one of them says so.
package cri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m.Run)) }

// testCase is one thing that a runtime must do.
type testCase struct {
	name string
	run  func(t *testing.T, r *runtime)
	only string // the runtime that it concerns; empty: all
	why  string // why the others are left out
}

// runtime is a runtime under test, with shortcuts that fail the test.
type runtime struct {
	*harness.Runtime
	t *testing.T
}

func (r *runtime) isDockershim() bool { return r.Shim != nil }

func TestDockershim(t *testing.T) {
	runAll(t, func(t *testing.T) *harness.Runtime { return harness.StartShim(t, harness.Docker(t)) })
}

func TestContainerd(t *testing.T) {
	runAll(t, func(t *testing.T) *harness.Runtime { return harness.StartContainerd(t) })
}

func runAll(t *testing.T, start func(t *testing.T) *harness.Runtime) {
	shared := start(t)
	for _, c := range allCases() {
		t.Run(c.name, func(t *testing.T) {
			if c.only != "" && c.only != shared.Name {
				t.Skipf("for %s only: %s", c.only, c.why)
			}
			t.Parallel()
			c.run(t, &runtime{shared, t})
		})
	}
}

func allCases() []testCase {
	var all []testCase
	for _, cases := range [][]testCase{
		statusCases, sandboxCases, containerCases, securityCases, mountCases, resourceCases, logCases, streamCases, imageCases, eventCases, statsCases, badInputCases, cdiCases, loadCases,
	} {
		all = append(all, cases...)
	}
	return all
}

var counter atomic.Int64

// sandboxConfig returns the configuration of a pod that no other test has.
func (r *runtime) sandboxConfig(change ...func(*cri.PodSandboxConfig)) *cri.PodSandboxConfig {
	n := counter.Add(1)
	uid := fmt.Sprintf("uid-%d-%d", os.Getpid(), n)
	c := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: fmt.Sprintf("pod%d", n), Namespace: "test", Uid: uid},
		Hostname:     fmt.Sprintf("pod%d", n),
		LogDirectory: filepath.Join(r.Dir, "logs", uid),
		Labels:       map[string]string{"io.kubernetes.pod.uid": uid, "io.kubernetes.pod.name": fmt.Sprintf("pod%d", n), "io.kubernetes.pod.namespace": "test"},
		Annotations:  map[string]string{"note": "a=b c"},
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}, Seccomp: &cri.SecurityProfile{},
		}},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// sandbox runs a sandbox that is removed when the test ends.
func (r *runtime) sandbox(config *cri.PodSandboxConfig) string {
	r.t.Helper()
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.RunPodSandbox(r.t.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		r.t.Fatalf("run sandbox: %v", err)
	}
	id := resp.PodSandboxId
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
		defer cancel()
		if _, err := r.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil && !r.knownGap(err) {
			r.t.Errorf("stop sandbox: %v", err)
		}
		if _, err := r.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
			r.t.Errorf("remove sandbox: %v", err)
		}
	})
	return id
}

// knownGap reports whether err is containerd 1.6's NotFound for what is already
// gone, where cri-api asks for success.
func (r *runtime) knownGap(err error) bool {
	return !r.isDockershim() && status.Code(err) == codes.NotFound
}

// containerConfig returns the configuration of a container that runs a shell
// script. As PID 1, a shell ends on SIGTERM only if its script says so.
func containerConfig(name, script string, change ...func(*cri.ContainerConfig)) *cri.ContainerConfig {
	c := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: harness.Busybox, UserSpecifiedImage: harness.Busybox},
		Command:  []string{"/bin/sh", "-c", script},
		LogPath:  name + "/0.log",
		Labels:   map[string]string{"io.kubernetes.container.name": name},
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{},
			SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}, Seccomp: &cri.SecurityProfile{}},
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// forever is a script that runs until it is told to end.
const forever = "trap 'exit 0' TERM; while :; do sleep 0.1; done"

func (r *runtime) create(sandboxID string, sandbox *cri.PodSandboxConfig, config *cri.ContainerConfig) string {
	r.t.Helper()
	if config.LogPath != "" { // which is the client's to make
		if err := os.MkdirAll(filepath.Dir(filepath.Join(sandbox.LogDirectory, config.LogPath)), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	resp, err := r.CreateContainer(r.t.Context(), &cri.CreateContainerRequest{PodSandboxId: sandboxID, Config: config, SandboxConfig: sandbox})
	if err != nil {
		r.t.Fatalf("create container: %v", err)
	}
	return resp.ContainerId
}

func (r *runtime) start(id string) {
	r.t.Helper()
	if _, err := r.StartContainer(r.t.Context(), &cri.StartContainerRequest{ContainerId: id}); err != nil {
		r.t.Fatalf("start container: %v", err)
	}
}

// pod is a sandbox with one running container.
type pod struct {
	sandbox *cri.PodSandboxConfig
	id      string // of the sandbox
	ctr     string // of the container
}

func (r *runtime) pod(script string, change ...func(*cri.ContainerConfig)) pod {
	r.t.Helper()
	config := r.sandboxConfig()
	id := r.sandbox(config)
	ctr := r.create(id, config, containerConfig("c", script, change...))
	r.start(ctr)
	return pod{config, id, ctr}
}

func (r *runtime) status(id string) *cri.ContainerStatus {
	r.t.Helper()
	resp, err := r.ContainerStatus(r.t.Context(), &cri.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		r.t.Fatalf("container status: %v", err)
	}
	return resp.Status
}

// handles waits until a container's first process has a handler for the signal; the
// kernel does not deliver signals for which it has none.
func (r *runtime) handles(id string, s syscall.Signal) {
	r.t.Helper()
	harness.Eventually(r.t, "the container handles "+s.String(), harness.Patience, func() error {
		resp, err := r.exec(id, 120, "sh", "-c", "while read name value; do [ $name != SigCgt: ] || echo $value; done < /proc/1/status")
		if err != nil {
			return err
		}
		caught, err := strconv.ParseUint(strings.TrimSpace(string(resp.Stdout)), 16, 64)
		if err == nil && caught&(1<<(s-1)) == 0 {
			err = fmt.Errorf("it handles %x", caught)
		}
		return err
	})
}

// exited waits for a container's end.
func (r *runtime) exited(id string) *cri.ContainerStatus {
	r.t.Helper()
	var st *cri.ContainerStatus
	harness.Eventually(r.t, "the container has ended", harness.Patience, func() error {
		if st = r.status(id); st.State != cri.ContainerState_CONTAINER_EXITED {
			return fmt.Errorf("it is %v", st.State)
		}
		return nil
	})
	if !r.isDockershim() {
		settle(st.LogPath)
	}
	return st
}

// settle waits until a log no longer grows: containerd reports a container's end
// before it has written all of its output, and does not report when that is done.
func settle(path string) {
	size, since := int64(-1), time.Now()
	for ; time.Since(since) < time.Second; time.Sleep(50 * time.Millisecond) {
		if info, err := os.Stat(path); err == nil && info.Size() != size {
			size, since = info.Size(), time.Now()
		}
	}
}

// endOfOutput is the last line of a container on a runtime that does not say when its log is complete.
const endOfOutput = "end of output"

// output runs a script in a new pod to its end and returns what it said.
func (r *runtime) output(script string, change ...func(*cri.ContainerConfig)) string {
	r.t.Helper()
	if !r.isDockershim() {
		script = "trap 'echo " + endOfOutput + "' EXIT\n" + script
	}
	p := r.pod(script, change...)
	st := r.exited(p.ctr)
	var text strings.Builder
	lines := r.log(st.LogPath)
	if !r.isDockershim() {
		// It may still be writing the log of a container that it calls exited.
		harness.Eventually(r.t, "the end of the output is in the log", harness.Patience, func() error {
			lines = r.log(st.LogPath)
			i := slices.IndexFunc(lines, func(l line) bool { return l.text == endOfOutput })
			if i < 0 {
				return fmt.Errorf("%q", lines)
			}
			lines = slices.Delete(lines, i, i+1)
			return nil
		})
	}
	for _, l := range lines {
		text.WriteString(l.text)
		if l.tag == "F" {
			text.WriteString("\n")
		}
	}
	if st.ExitCode != 0 {
		r.t.Fatalf("script %q ended with %d: %s", script, st.ExitCode, text.String())
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// lines returns a log's lines, with split ones joined.
func (r *runtime) lines(path string) []string {
	r.t.Helper()
	var all []string
	text := ""
	for _, l := range r.log(path) {
		if text += l.text; l.tag == "F" {
			all = append(all, text)
			text = ""
		}
	}
	return all
}

// logged returns a container's log when it has ended, for containerd once it is enough, see settle.
func (r *runtime) logged(path string, enough func([]line) bool) (lines []line) {
	r.t.Helper()
	harness.Eventually(r.t, "the log is complete", harness.Patience, func() error {
		if lines = r.log(path); !r.isDockershim() && !enough(lines) {
			return fmt.Errorf("it has %d lines", len(lines))
		}
		return nil
	})
	return lines
}

// line is a record of a CRI log.
type line struct{ time, stream, tag, text string }

func (r *runtime) log(path string) []line {
	r.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	var all []line
	for _, l := range strings.SplitAfter(string(data), "\n") {
		if l == "" {
			continue
		}
		f := strings.SplitN(strings.TrimSuffix(l, "\n"), " ", 4)
		if len(f) != 4 || !strings.HasSuffix(l, "\n") {
			r.t.Fatalf("log line %q is not in CRI's form", l)
		}
		if _, err := time.Parse(time.RFC3339Nano, f[0]); err != nil {
			r.t.Fatalf("log line %q: %v", l, err)
		}
		all = append(all, line{f[0], f[1], f[2], f[3]})
	}
	return all
}

func (r *runtime) exec(id string, timeout int64, command ...string) (*cri.ExecSyncResponse, error) {
	return r.ExecSync(r.t.Context(), &cri.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: timeout})
}

// mustExec returns the command's output.
func (r *runtime) mustExec(id string, command ...string) string {
	r.t.Helper()
	resp, err := r.exec(id, int64(harness.Patience/time.Second), command...)
	if err != nil {
		r.t.Fatalf("exec %q: %v", command, err)
	}
	if resp.ExitCode != 0 {
		r.t.Fatalf("exec %q ended with %d: %s", command, resp.ExitCode, resp.Stderr)
	}
	return strings.TrimSuffix(string(resp.Stdout), "\n")
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v (%v), want %v", what, got, err, want)
	}
}
