package nodepressure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/eviction"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// world is a node in memory: what is left of it, its pods, and what becomes of them. A test plays it
// alone, so that nothing is locked.
type world struct {
	*Manager
	left    map[options.Signal]int64 // of 1000
	all     []*v1.Pod
	used    map[string]uint64 // by pod: memory, and its layer
	broken  error
	events  []string
	changes int      // of the conditions
	evicted []string // name and grace
	pending []eviction.Pending
	cleaned []string
	frees   int64 // by cleaning
	late    int   // how often the runtime is asked before it has measured
	asked   int   // the runtime, for what the pods use
	starts  *v1.Pod
	dir     string
}

func (w *world) ListPodSandboxStats(context.Context, *cri.ListPodSandboxStatsRequest, ...grpc.CallOption) (*cri.ListPodSandboxStatsResponse, error) {
	w.asked++
	if w.starts != nil {
		w.all, w.starts = append(w.all, w.starts), nil
	}
	r := &cri.ListPodSandboxStatsResponse{}
	for name, n := range w.used {
		c := &cri.ContainerStats{
			Attributes: &cri.ContainerAttributes{Metadata: &cri.ContainerMetadata{Name: "c"}},
			Memory:     &cri.MemoryUsage{WorkingSetBytes: &cri.UInt64Value{Value: n}},
		}
		if w.late <= 0 {
			c.WritableLayer = &cri.FilesystemUsage{Timestamp: time.Now().UnixNano(), UsedBytes: &cri.UInt64Value{Value: n}}
		}
		r.Stats = append(r.Stats, &cri.PodSandboxStats{
			Attributes: &cri.PodSandboxAttributes{Labels: map[string]string{pods.LabelPodUID: name}},
			Linux:      &cri.LinuxPodSandboxStats{Containers: []*cri.ContainerStats{c}},
		})
	}
	w.late--
	return r, w.broken
}

func (w *world) Path(pod *v1.Pod, name string) (volume.Path, error) {
	return volume.Path{Host: filepath.Join(w.dir, pod.Name, name)}, nil
}

func (w *world) Evict(_ context.Context, e eviction.Eviction) bool {
	w.evicted = append(w.evicted, fmt.Sprintf("%s %d", e.Pod.Name, e.Grace))
	w.pending = append(w.pending, eviction.Pending{UID: e.Pod.UID, Grace: e.Grace})
	return true
}

func (w *world) Pending() []eviction.Pending { return w.pending }

// stop ends all pods that were evicted.
func (w *world) stop() {
	for _, p := range w.pending {
		w.all = slices.DeleteFunc(slices.Clone(w.all), func(pod *v1.Pod) bool { return pod.UID == p.UID })
	}
	w.pending = nil
}

type cleans struct {
	w    *world
	what string
}

func (c cleans) DeleteUnused(context.Context) error {
	c.w.cleaned = append(c.w.cleaned, c.what)
	c.w.left[options.NodefsAvailable] += c.w.frees
	return errors.New("not all of them")
}

func newWorld(t *testing.T, change func(*Config), thresholds ...options.Threshold) *world {
	t.Helper()
	w := &world{left: map[options.Signal]int64{}, used: map[string]uint64{}, dir: t.TempDir()}
	cfg := Config{
		Hold: time.Minute, MaxGrace: 20, Node: Node{Root: w.dir}, Pods: func() []*v1.Pod { return w.all },
		Runtime: w, Volumes: w, LogDir: func(pod *v1.Pod) string { return filepath.Join(w.dir, pod.Name, "logs") }, Evictor: w,
		Containers: cleans{w, "containers"}, Images: cleans{w, "images"}, Clock: clock.RealClock{},
		Event:   func(_, reason, message string) { w.events = append(w.events, reason+": "+message) },
		Changed: func() { w.changes++ },
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.Manager, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Millisecond) // in a bubble: the first look is not the second
	w.thresholds = thresholds
	w.observe = func(now time.Time) observations {
		seen := observations{}
		for s, n := range w.left {
			seen[s] = observation{n, 1000, now}
		}
		return seen
	}
	return w
}

// play is Run for some time, without the watch of memory.
func (w *world) play(t *testing.T, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		next := w.round(t.Context())
		if next <= 0 {
			t.Fatal("looks again without a rest")
		}
		if w.job != nil {
			p := <-w.job
			w.job, w.ready = nil, &p
			time.Sleep(time.Millisecond) // it takes time outside of bubbles
			continue
		}
		time.Sleep(min(next, time.Until(end)))
	}
}

// bubble plays a test in time of its own.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestOnePodAtATimeHasToGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil, hard(options.MemoryAvailable, 100))
		w.all = []*v1.Pod{p("small", 0), p("large", 0), p("critical", 2_000_000_000)}
		w.used = map[string]uint64{"small": 1, "large": 2, "critical": 3}
		w.left[options.MemoryAvailable] = 50
		w.play(t, 20*time.Second)
		if got := fmt.Sprint(w.evicted, w.cleaned, w.Conditions()); got != "[large 1] [] [MemoryPressure]" {
			t.Errorf("while it has not gone: %s", got)
		}
		w.stop()
		w.play(t, time.Second)
		if got := fmt.Sprint(w.evicted); got != "[large 1 small 1]" {
			t.Errorf("once it has gone: %s", got)
		}
		w.stop()
		w.play(t, time.Minute) // a threshold that can never be kept
		if got := fmt.Sprint(w.evicted); got != "[large 1 small 1]" {
			t.Errorf("nobody is left but a critical pod: %s", got)
		}
		if want := "EvictionThresholdMet: Attempting to reclaim memory"; len(w.events) != 3 || w.events[0] != want {
			t.Errorf("events %q, want one before each pod", w.events)
		}
		w.left[options.MemoryAvailable] = 500
		w.play(t, 49*time.Second) // it was last seen up to ten seconds before
		if len(w.Conditions()) != 1 || len(w.cleared) != 0 {
			t.Error("the condition does not stay")
		}
		w.play(t, 20*time.Second)
		if len(w.Conditions()) != 0 || len(w.cleared) != 1 || w.changes != 2 {
			t.Errorf("the condition stays: %v", w.Conditions())
		}
	})
}

func TestAPodThatDoesNotGoIsNotEvictedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil, hard(options.MemoryAvailable, 100))
		w.all = []*v1.Pod{p("stuck", 0), p("next", 10)}
		w.used = map[string]uint64{"stuck": 1, "next": 1}
		w.left[options.MemoryAvailable] = 50
		w.play(t, time.Second)
		w.pending = nil // it is no longer waited for
		w.play(t, time.Second)
		if got := fmt.Sprint(w.evicted); got != "[stuck 1 next 1]" {
			t.Error(got)
		}
	})
}

func TestSoftEvictionLeavesTimeUntilTheHardThreshold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil, soft(options.MemoryAvailable, 200, 30*time.Second), hard(options.MemoryAvailable, 100))
		long, short := p("long", 0), p("short", 10)
		long.Spec.TerminationGracePeriodSeconds, short.Spec.TerminationGracePeriodSeconds = ptr.To[int64](60), ptr.To[int64](5)
		w.all, w.used = []*v1.Pod{long, short}, map[string]uint64{"long": 1, "short": 1}
		w.left[options.MemoryAvailable] = 150
		w.play(t, 29*time.Second)
		if len(w.evicted) != 0 || len(w.Conditions()) != 1 {
			t.Fatalf("within its grace: evicted %v, conditions %v", w.evicted, w.Conditions())
		}
		w.play(t, 2*time.Second)
		if got := fmt.Sprint(w.evicted); got != "[long 20]" {
			t.Errorf("after its grace: %s", got)
		}
		w.left[options.MemoryAvailable] = 50
		w.play(t, 2*time.Second)
		if got := fmt.Sprint(w.evicted); got != "[long 20 long 1]" {
			t.Errorf("a hard threshold beside it: %s", got)
		}
		w.stop()
		w.left[options.MemoryAvailable] = 150
		w.play(t, 10*time.Second)
		if got := fmt.Sprint(w.evicted); got != "[long 20 long 1 short 5]" {
			t.Errorf("softly again: %s", got)
		}
	})
}

func TestTheNodeCleansUpBeforeAPodHasToGo(t *testing.T) {
	for name, tc := range map[string]struct {
		frees   int64
		evicted string
	}{"enough": {30, "[]"}, "not enough": {10, "[large 1]"}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, nil, hard(options.NodefsAvailable, 100))
				w.all, w.used = []*v1.Pod{p("small", 0), p("large", 0)}, map[string]uint64{"small": 1, "large": 2}
				w.left[options.NodefsAvailable], w.frees, w.late = 50, tc.frees, 3
				w.play(t, 5*time.Second)
				if got := fmt.Sprint(w.evicted); got != tc.evicted || fmt.Sprint(w.cleaned) != "[containers images]" {
					t.Errorf("evicted %s, cleaned %v; want %s", got, w.cleaned, tc.evicted)
				}
			})
		})
	}
}

func TestADiskThatSomethingElseHasFilledTakesOnePodInTenSeconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil, hard(options.NodefsAvailable, 100))
		for i := range 5 {
			w.all = append(w.all, p(fmt.Sprint(i), 0))
		}
		for _, pod := range w.all {
			w.used[pod.Name] = 1
		}
		w.left[options.NodefsAvailable] = 50
		for range 25 {
			w.play(t, time.Second)
			w.stop()
		}
		if len(w.evicted) != 3 || len(w.cleaned) != 2*3 {
			t.Errorf("evicted %v, cleaned %v", w.evicted, w.cleaned)
		}
	})
}

// Where nobody can be evicted, the runtime is not asked what pods use; and what is not to be helped does not
// keep the disk from being cleaned, once a minute.
func TestNothingIsMeasuredWhereNobodyCanBeEvicted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil, hard(options.MemoryAvailable, 100), hard(options.AllocatableMemoryAvailable, 100), hard(options.NodefsAvailable, 100))
		w.all, w.used = []*v1.Pod{p("critical", 2_000_000_000)}, map[string]uint64{"critical": 1}
		w.left = map[options.Signal]int64{options.MemoryAvailable: 50, options.AllocatableMemoryAvailable: 50, options.NodefsAvailable: 50}
		w.play(t, 150*time.Second)
		if w.asked != 0 || len(w.evicted) != 0 || len(w.cleaned) != 2*3 {
			t.Errorf("asked %d times, evicted %v, cleaned %v; want it cleaned three times and no more", w.asked, w.evicted, w.cleaned)
		}
		w.left[options.MemoryAvailable], w.left[options.AllocatableMemoryAvailable] = 500, 500
		w.all = append(w.all, p("new", 0))
		w.used["new"] = 1
		w.play(t, 11*time.Second)
		if fmt.Sprint(w.evicted) != "[new 1]" {
			t.Errorf("evicted %v once there is somebody", w.evicted)
		}
	})
}

// Neither a cleaning that was enough nor one for another threshold has the next begin at once.
func TestACleaningIsFollowedByARest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil, hard(options.NodefsAvailable, 100), hard(options.NodefsInodesFree, 100))
		w.all, w.used = []*v1.Pod{p("a", 0)}, map[string]uint64{"a": 1}
		w.left = map[options.Signal]int64{options.NodefsAvailable: 50, options.NodefsInodesFree: 500}
		w.frees = 60
		for range 9 { // what cleaning gives back is taken again at once
			w.round(t.Context())
			if w.job != nil {
				p := <-w.job
				w.job, w.ready = nil, &p
				w.left[options.NodefsAvailable] = 50
			}
			time.Sleep(time.Second)
		}
		if len(w.cleaned) != 2 || len(w.evicted) != 0 {
			t.Errorf("after one that was enough: cleaned %v, evicted %v", w.cleaned, w.evicted)
		}
		w.play(t, 2*time.Second)
		w.frees, w.cleaned = 0, nil
		w.left = map[options.Signal]int64{options.NodefsAvailable: 50, options.NodefsInodesFree: 500}
		time.Sleep(period)
		w.round(t.Context())
		p := <-w.job
		w.job, w.ready = nil, &p
		w.left = map[options.Signal]int64{options.NodefsAvailable: 500, options.NodefsInodesFree: 50}
		w.play(t, 9*time.Second)
		if len(w.cleaned) != 2 || len(w.evicted) != 0 {
			t.Errorf("after one for another threshold: cleaned %v, evicted %v", w.cleaned, w.evicted)
		}
	})
}

// The ten seconds after an eviction for the disk's sake are none for memory.
func TestMemoryDoesNotWaitForTheDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil, hard(options.MemoryAvailable, 100), hard(options.NodefsAvailable, 100))
		w.all, w.used = []*v1.Pod{p("a", 0), p("b", 0)}, map[string]uint64{"a": 2, "b": 1}
		w.left[options.NodefsAvailable] = 50
		w.play(t, time.Second)
		w.stop()
		w.left[options.MemoryAvailable] = 50
		w.play(t, time.Second)
		if got := fmt.Sprint(w.evicted); got != "[a 1 b 1]" {
			t.Error(got)
		}
	})
}

func TestAPodThatStartsMeanwhileIsNotTheFirstToGo(t *testing.T) {
	for _, s := range []options.Signal{options.MemoryAvailable, options.NodefsAvailable} {
		t.Run(string(s), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, nil, hard(s, 100))
				w.all, w.used, w.starts = []*v1.Pod{p("large", 0)}, map[string]uint64{"large": 2}, p("new", 0)
				w.left[s] = 50
				w.play(t, time.Second)
				if got := fmt.Sprint(w.evicted); got != "[large 1]" || len(w.all) != 2 {
					t.Errorf("evicted %s of %d", got, len(w.all))
				}
			})
		})
	}
}

// A file system for which nothing can be done does not keep another one from being cleaned.
func TestEachDiskIsCleanedWhereNobodyCanBeEvicted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil, hard(options.NodefsAvailable, 100), hard(options.ImagefsAvailable, 100))
		w.layout = layout{images: true, split: true}
		w.left = map[options.Signal]int64{options.NodefsAvailable: 50, options.ImagefsAvailable: 50}
		w.play(t, 30*time.Second)
		if fmt.Sprint(w.cleaned) != "[containers images]" {
			t.Errorf("cleaned %v", w.cleaned)
		}
	})
}

func TestARuntimeThatDoesNotAnswerCostsNoPod(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil, hard(options.MemoryAvailable, 100), hard(options.NodefsAvailable, 100))
		w.all, w.broken = []*v1.Pod{p("a", 0)}, errors.New("no")
		w.left[options.MemoryAvailable] = 50
		w.play(t, 10*time.Second)
		w.left = map[options.Signal]int64{options.NodefsAvailable: 50}
		w.play(t, 10*time.Second)
		if len(w.evicted) != 0 || fmt.Sprint(w.Conditions()) != "[DiskPressure MemoryPressure]" {
			t.Errorf("evicted %v, conditions %v", w.evicted, w.Conditions())
		}
	})
}

func TestStaticPodsAreSparedUnlessTheyAreAllThereIs(t *testing.T) {
	static, critical := p("static", 0), p("critical", 2_000_001_000)
	for _, pod := range []*v1.Pod{static, critical} {
		pod.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceFile}
	}
	cluster, alone := newWorld(t, nil), newWorld(t, func(c *Config) { c.EvictStatic = true })
	for name, tc := range map[string]struct {
		w    *world
		pod  *v1.Pod
		want bool
	}{
		"in a cluster": {cluster, static, true}, "of the API": {cluster, p("p", 0), false}, "important": {alone, p("p", 2_000_000_000), true},
		"standalone": {alone, static, false}, "standalone, critical": {alone, critical, true},
	} {
		if got := tc.w.Spares(tc.pod); got != tc.want {
			t.Errorf("%s: spared %v", name, got)
		}
	}
}

func TestWhatAPodHasOnDiskIsMeasured(t *testing.T) {
	w := newWorld(t, nil)
	pod := p("p", 0)
	dir := func(v *v1.EmptyDirVolumeSource) v1.VolumeSource { return v1.VolumeSource{EmptyDir: v} }
	pod.Spec.Volumes = []v1.Volume{
		{Name: "v", VolumeSource: dir(&v1.EmptyDirVolumeSource{})}, {Name: "memory", VolumeSource: dir(&v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory})},
		{Name: "config", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{}}}, {Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{}}},
	}
	for path, kib := range map[string]int{"p/v/f": 64, "p/memory/f": 1024, "p/config/f": 8, "p/host/f": 1024, "p/logs/c/0.log": 128, "p/logs/ended/0.log": 1024} {
		path = filepath.Join(w.dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(strings.Repeat("x", kib<<10)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	w.used["p"] = 4 << 20
	used, err := w.measureDisk(t.Context(), []*v1.Pod{pod, p("new", 0)}, counted{layers: true, logs: true, volumes: true})
	u := used[types.UID("p")]
	if err != nil || len(used) != 1 || len(u.containers) != 1 {
		t.Fatalf("%+v, %v", used, err)
	}
	c := u.containers[0]
	if c.layer.Bytes != 4<<20 || c.logs.Bytes>>10 < 128 || c.logs.Bytes>>10 > 200 || u.volumes.Bytes>>10 < 72 || u.volumes.Bytes>>10 > 200 || u.volumes.Inodes != 4 {
		t.Errorf("%+v", u)
	}
}

func TestObserveThisMachine(t *testing.T) {
	seen := observer{Node{Root: t.TempDir()}}.all(noon)
	for _, s := range []options.Signal{options.MemoryAvailable, options.NodefsAvailable, options.ImagefsAvailable, options.ContainerfsAvailable, options.PIDAvailable} {
		if o, ok := seen[s]; !ok || o.available <= 0 || o.available > o.capacity || o.at != noon {
			t.Errorf("%s = %+v, %v; want something between nothing and all", s, o, ok)
		}
	}
	nowhere := observer{Node{Root: "/no/such/directory", PodsCgroup: "/no/such/cgroup"}}
	if seen := nowhere.all(noon); len(seen) != 2 || nowhere.layout() != (layout{}) {
		t.Errorf("of a directory that is not there: %v, want memory and processes only", seen)
	}
}

// What the runtime cannot say at the start is asked for again: imagefs is not nodefs for ever.
func TestFileSystemsAreAskedForUntilTheyAreKnown(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "nodepressure")
	if err != nil {
		t.Skipf("this machine has no second file system to write to: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	want := observer{Node{Root: t.TempDir(), Images: other}}.layout()
	if !want.images {
		t.Skip("/dev/shm is on the file system of temporary files")
	}
	bubble(t, func(t *testing.T) {
		asked := 0
		w := newWorld(t, func(c *Config) {
			c.Thresholds = []options.Threshold{hard(options.ImagefsAvailable, 0)}
			c.FileSystems = func() (string, string, bool) {
				if asked++; asked < 3 {
					return "", "", false
				}
				return other, "", true
			}
		}, hard(options.ImagefsAvailable, 1))
		if w.layout.images {
			t.Error("known at the start")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if asked != 3 || !w.known || w.layout != want || len(w.thresholds) != 2 {
			t.Errorf("asked %d times: %+v, thresholds %v; want %+v", asked, w.layout, w.thresholds, want)
		}
	})
}

func TestRunEnds(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Thresholds = []options.Threshold{hard(options.MemoryAvailable, 1)} })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
