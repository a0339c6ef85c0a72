package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memcg"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

const mebibyte = 1 << 20

// onSmallDisk gives the agent's root directory a file system of its own, of that size, which is
// taken away with the agent.
func onSmallDisk(t *testing.T, a *harness.Agent, size int) {
	t.Helper()
	root := filepath.Join(a.Dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", size)); err != nil {
		t.Skipf("this environment cannot mount: %v", err)
	}
}

// writes is a pod that puts so many mebibytes into a volume of its own, is ready then and stays.
func writes(name string, mebibytes int, change ...func(*v1.Pod)) *v1.Pod {
	write := fmt.Sprintf("dd if=/dev/zero of=/v/f bs=1M count=%d", mebibytes)
	p := harness.Pod(name, write+"; touch /tmp/ready; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done", harness.ReadyOnceTouched)
	p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
	for _, f := range change {
		f(p)
	}
	return p
}

func evicted(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed && p.Status.Reason == "Evicted" }

// TestAFullDiskIsRelievedOfThePodThatUsesMost: not of one that stays within its request, nor of a critical one. Until the
// pressure has passed no pod is admitted; then those that had to go or could not come are started.
func TestAFullDiskIsRelievedOfThePodThatUsesMost(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{
		"evictionHard":                     map[string]string{"nodefs.available": "20Mi"},
		"evictionPressureTransitionPeriod": "30s", // late has to come within it, also on a slow machine
	}})
	onSmallDisk(t, a, 64*mebibyte)
	a.Start()
	a.Write("others.yaml",
		writes("critical", 15, func(p *v1.Pod) { p.Spec.Priority = ptr.To[int32](2_000_000_000) }),
		writes("within", 12, needs(amounts("ephemeral-storage", "30Mi"), nil)),
		writes("some", 2),
	)
	for _, name := range []string{"critical", "within", "some"} {
		a.WaitRunning(name)
	}
	// It writes once only, so that it can come back.
	much := writes("much", 17)
	much.Spec.Volumes = append(much.Spec.Volumes, v1.Volume{Name: "mark", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: a.Dir}}})
	c := &much.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: "mark", MountPath: "/mark"})
	c.Command[2] = "test ! -e /mark/was && touch /mark/was && " + c.Command[2]
	a.Write("much.yaml", much)
	gone := a.WaitPod("much", "is evicted", evicted)
	if want := "The node was low on resource: ephemeral-storage. Threshold quantity: 20Mi, available: "; !strings.HasPrefix(gone.Status.Message, want) ||
		!strings.Contains(gone.Status.Message, "Container c was using ") {
		t.Errorf("message %q", gone.Status.Message)
	}
	a.Write("late.yaml", harness.Pod("late", ""))
	late := a.WaitPod("late", "is rejected", evicted)
	if want := "Pod was rejected: The node had condition: [DiskPressure]. "; late.Status.Message != want {
		t.Errorf("rejected: %q, want %q", late.Status.Message, want)
	}
	a.WaitRunning("late")
	a.WaitRunning("much")
	for _, name := range []string{"critical", "within", "some"} {
		if p := a.WaitRunning(name); p.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("%s was restarted", name)
		}
	}
	if n := strings.Count(a.Log(), `"Evicting pod"`); n != 1 {
		t.Errorf("%d pods were evicted, want one", n)
	}
}

// TestAHogOfMemoryIsEvictedBeforeTheKernelKills, told by the kernel: of all pods together, which have little here.
func TestAHogOfMemoryIsEvictedBeforeTheKernelKills(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	m, err := machine.ReadMemory()
	if err != nil {
		t.Fatal(err)
	}
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{
		"kubeReserved": map[string]string{"memory": fmt.Sprint(m.Total - 256*mebibyte)},
		"evictionHard": map[string]string{"memory.available": "100Mi"},
	}})
	steady := harness.Pod("steady", "", needs(nil, amounts("cpu", "10m", "memory", "32Mi")))
	// It takes 200 MiB of the 156 and keeps them, not at once: the kernel kills beyond 256.
	hog := harness.Pod("hog", "(for i in 1 2 3 4 5 6 7 8 9 10; do head -c 20971520 /dev/zero; sleep 0.1; done; sleep 3600) | tail -c 209715200 >/dev/null")
	a.Write("steady.yaml", steady)
	a.WaitRunning("steady")

	group, crossed := memcg.Of(a.CgroupRoot()+"/kubepods"), make(chan time.Time, 1)
	if _, err := group.Read(); err != nil {
		t.Skipf("pods have no memory cgroup here: %v", err)
	}
	go func() {
		for t.Context().Err() == nil {
			if u, err := group.Read(); err == nil && u.WorkingSet() > 156*mebibyte {
				crossed <- time.Now()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	a.Write("hog.yaml", hog)
	p := a.WaitPod("hog", "is evicted", evicted)
	if !strings.HasPrefix(p.Status.Message, "The node was low on resource: memory. Threshold quantity: 100Mi, available: ") || !strings.Contains(p.Status.Message, "Container c was using ") {
		t.Errorf("message %q", p.Status.Message)
	}
	disrupted := false
	for _, c := range p.Status.Conditions {
		disrupted = disrupted || c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonTerminationByKubelet
	}
	if !disrupted {
		t.Errorf("conditions %+v", p.Status.Conditions)
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Terminated != nil && c.State.Terminated.Reason == "OOMKilled" {
			t.Errorf("the kernel was faster: %+v", c.State.Terminated)
		}
	}
	if s := a.WaitRunning("steady"); s.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the other pod was restarted")
	}
	select {
	case at := <-crossed:
		t.Logf("the threshold was crossed at %s; the agent's log: %s", at.UTC().Format("15:04:05.000000"), lineWith(a.Log(), `"Evicting pod"`))
	default:
	}
}

// lineWith returns the first line that contains the text.
func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// TestImagesThatNobodyUsesGoBeforeAPodHasTo when the disk of images and layers is full.
func TestImagesThatNobodyUsesGoBeforeAPodHasTo(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	d := harness.StartDockerd(t, harness.DockerdConfig{DataSize: 128 * mebibyte})
	a := harness.NewAgent(t, harness.AgentConfig{Docker: d})
	const idle = "test.local/idle:1"
	d.LoadBig(t, idle, 40*mebibyte)
	fs, err := machine.ReadFileSystem(d.DataRoot())
	if err != nil {
		t.Fatal(err)
	}
	a.SetConfig("evictionHard", map[string]string{"imagefs.available": fmt.Sprint(fs.Free - 20*mebibyte)})
	a.SetConfig("imageGCHighThresholdPercent", 99)
	a.SetConfig("imageMinimumGCAge", "1ms")
	a.Start()
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	// Images are young until they have been seen once, which is done at the start.
	if err := os.WriteFile(filepath.Join(d.DataRoot(), "filler"), make([]byte, 30*mebibyte), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the image is gone", harness.Patience, func() error {
		if has(t, d, idle) {
			return fmt.Errorf("%s is there", idle)
		}
		return nil
	}, a.Explain)
	waitLog(t, a, "able to reduce resource pressure without evicting pods")
	if p := a.WaitRunning("web"); p.Status.ContainerStatuses[0].RestartCount != 0 || strings.Contains(a.Log(), `"Evicting pod"`) {
		t.Error("the pod had to go, too")
	}
}
