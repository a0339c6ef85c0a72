package localstorage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
	"github.com/mini-kubelet/mini-kubelet/test/treetest"
)

// world is a Manager with its surroundings below a directory.
type world struct {
	dir string

	mu      sync.Mutex
	pods    []*v1.Pod
	layers  map[types.UID][]*cri.ContainerStats
	hang    map[types.UID]bool
	broken  error
	lost    string // a volume that has no path
	asked   []types.UID
	evicted []string
	refuse  bool
}

func newWorld(t *testing.T) *world {
	return &world{dir: t.TempDir(), layers: map[types.UID][]*cri.ContainerStats{}, hang: map[types.UID]bool{}}
}

func (w *world) Path(pod *v1.Pod, name string) (volume.Path, error) {
	if name == w.lost {
		return volume.Path{}, errors.New("lost")
	}
	return volume.Path{Host: filepath.Join(w.dir, string(pod.UID), "volumes", name)}, nil
}

func (w *world) HostsPath(uid types.UID) (string, error) {
	return filepath.Join(w.dir, string(uid), "hosts"), nil
}

func (w *world) logs(pod *v1.Pod) string { return filepath.Join(w.dir, string(pod.UID), "logs") }

func (w *world) ListContainerStats(ctx context.Context, r *cri.ListContainerStatsRequest, _ ...grpc.CallOption) (*cri.ListContainerStatsResponse, error) {
	uid := types.UID(r.Filter.LabelSelector["io.kubernetes.pod.uid"])
	w.mu.Lock()
	w.asked = append(w.asked, uid)
	hang, stats, err := w.hang[uid], w.layers[uid], w.broken
	w.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &cri.ListContainerStatsResponse{Stats: stats}, err
}

func (w *world) evict(_ context.Context, pod *v1.Pod, signal, message string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.evicted = append(w.evicted, string(pod.UID)+" "+signal)
	return !w.refuse
}

func (w *world) manager(t *testing.T) *Manager {
	t.Helper()
	m, err := New(Config{
		Pods: func() []*v1.Pod {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.pods
		},
		Runtime: w, Volumes: w, LogDir: w.logs, Evict: w.evict,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (w *world) add(uid types.UID, b *bounded) {
	b.UID = uid
	w.pods = append(w.pods, &b.Pod)
}

// file writes mebibytes below a pod's directory.
func (w *world) file(t *testing.T, path string, mebibytes int) {
	t.Helper()
	path = filepath.Join(w.dir, path)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err = errors.Join(err, os.WriteFile(path, []byte(strings.Repeat("x", mebibytes*mib)), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func layer(name string, attempt uint32, bytes uint64) *cri.ContainerStats {
	return &cri.ContainerStats{
		Attributes:    &cri.ContainerAttributes{Metadata: &cri.ContainerMetadata{Name: name, Attempt: attempt}},
		WritableLayer: &cri.FilesystemUsage{UsedBytes: &cri.UInt64Value{Value: bytes}},
	}
}

func TestWhatAPodTakesIsMeasured(t *testing.T) {
	w := newWorld(t)
	b := pod().emptyDir("limited", "", "9Mi").emptyDir("other", "", "").emptyDir("pages", "HugePages", "9Mi").emptyDir("memory", v1.StorageMediumMemory, "9Mi")
	b.Spec.Volumes = append(b.Spec.Volumes,
		v1.Volume{Name: "config", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{}}},
		v1.Volume{Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/"}}},
		v1.Volume{Name: "absent", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
	)
	w.add("p", b)
	for path, n := range map[string]int{
		"limited/f": 1, "other/f": 2, "pages/f": 4, "memory/f": 8, "config/f": 16, "host/f": 32,
	} {
		w.file(t, "p/volumes/"+path, n)
	}
	w.file(t, "p/logs/c/0.log", 1)
	w.file(t, "p/logs/c/1.log", 2)
	w.file(t, "p/logs/ended/0.log", 64)
	w.file(t, "p/hosts", 1)
	w.layers["p"] = []*cri.ContainerStats{layer("c", 1, 5*mib), layer("c", 0, 99*mib), {Attributes: &cri.ContainerAttributes{Metadata: &cri.ContainerMetadata{Name: "new"}}}}

	mebibytes := func(u use) map[string]uint64 {
		all := map[string]uint64{"total": u.total / mib}
		for name, n := range u.emptyDirs {
			all["emptyDir "+name] = n / mib
		}
		for name, n := range u.containers {
			all["container "+name] = n / mib
		}
		return all
	}
	for name, tc := range map[string]struct {
		limit     string // of container c
		elsewhere bool
		want      map[string]uint64
		asked     int
	}{
		"volumes alone are limited: the runtime is not asked": {want: map[string]uint64{"total": 0, "emptyDir limited": 1, "emptyDir pages": 4}},
		"a container is limited": {limit: "9Mi", asked: 1, want: map[string]uint64{
			"total": 1 + 2 + 16 + 3 + 5 + 1, "emptyDir limited": 1, "emptyDir pages": 4, "container c": 8, "container new": 0}},
		"layers have a disk of their own": {limit: "9Mi", elsewhere: true, asked: 1, want: map[string]uint64{
			"total": 1 + 2 + 16 + 3 + 5 + 1, "emptyDir limited": 1, "emptyDir pages": 4, "container c": 3, "container new": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			w.asked = nil
			b.Spec.Containers = []v1.Container{container("c", tc.limit)}
			m := w.manager(t)
			m.cfg.ImagesElsewhere = func() bool { return tc.elsewhere }
			u, err := m.measure(t.Context(), &b.Pod, limitsOf(&b.Pod))
			if got := mebibytes(u); err != nil || !reflect.DeepEqual(got, tc.want) || len(w.asked) != tc.asked {
				t.Errorf("%v, %v, runtime asked %v; want %v", got, err, w.asked, tc.want)
			}
		})
	}
}

// play runs a Manager in a bubble for some time.
func (w *world) play(t *testing.T, d time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m, ended := w.manager(t), make(chan error)
		go func() { ended <- m.Run(ctx) }()
		time.Sleep(d)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestPodsBeyondTheirLimitsAreEvictedAndTheOthersNotLookedAt(t *testing.T) {
	w := newWorld(t)
	w.add("free", pod().emptyDir("v", "", "").container("c", ""))
	w.add("small", pod().container("c", "1Mi"))
	w.add("large", pod().container("c", "1Mi"))
	w.layers["large"] = []*cri.ContainerStats{layer("c", 0, 2*mib)}
	w.play(t, 11*time.Second)
	if want := []types.UID{"small", "large"}; !reflect.DeepEqual(w.asked, want) {
		t.Errorf("asked for %v, want %v", w.asked, want)
	}
	if want := []string{"large ephemeralpodfs.limit"}; !reflect.DeepEqual(w.evicted, want) {
		t.Errorf("evicted %v, want %v", w.evicted, want)
	}
}

func TestAPodThatHangsIsMeasuredOnceAndDelaysTheOthersLittle(t *testing.T) {
	w := newWorld(t)
	w.add("stuck", pod().container("c", "1Mi"))
	w.add("large", pod().container("c", "1Mi"))
	w.hang["stuck"] = true
	w.layers["large"] = []*cri.ContainerStats{layer("c", 0, 2*mib)}
	w.play(t, 13*time.Second)
	if want := []string{"large ephemeralpodfs.limit"}; !reflect.DeepEqual(w.evicted, want) {
		t.Errorf("evicted %v, want %v", w.evicted, want)
	}
	w.asked = nil
	w.play(t, 59*time.Second)
	stuck := 0
	for _, uid := range w.asked {
		if uid == "stuck" {
			stuck++
		}
	}
	if stuck != 1 || len(w.asked) != 1+5 {
		t.Errorf("asked for %v", w.asked)
	}
}

func TestWhatIsNotToBeEvictedIsToldOnce(t *testing.T) {
	w := newWorld(t)
	w.add("critical", pod().container("c", "1Mi"))
	w.layers["critical"] = []*cri.ContainerStats{layer("c", 0, 2*mib)}
	w.refuse = true
	w.play(t, 45*time.Second)
	if len(w.evicted) != 1 || len(w.asked) != 4 {
		t.Errorf("evicted %v, asked %v", w.evicted, w.asked)
	}
}

func TestAVolumeCountsWhereTheRuntimeDoesNotAnswer(t *testing.T) {
	w := newWorld(t)
	w.add("p", pod().emptyDir("v", "", "1Mi").container("c", "1Mi"))
	w.file(t, "p/volumes/v/f", 2)
	w.broken = errors.New("no")
	w.play(t, 11*time.Second)
	if want := []string{"p emptydirfs.limit"}; !reflect.DeepEqual(w.evicted, want) {
		t.Errorf("evicted %v, want %v", w.evicted, want)
	}
}

func TestAVolumeIsNoCoverForAnother(t *testing.T) {
	w := newWorld(t)
	w.add("deep", pod().emptyDir("v", "", "1Mi"))
	w.add("wide", pod().emptyDir("broken", "", "1Mi").emptyDir("v", "", "1Mi"))
	w.file(t, "deep/volumes/v/f", 0)
	treetest.Deep(t, filepath.Join(w.dir, "deep/volumes/v"), 5000)
	t.Cleanup(func() { // t.TempDir cannot
		if err := tree.Remove(context.Background(), w.dir, "deep"); err != nil {
			t.Error(err)
		}
	})
	w.file(t, "wide/volumes/v/f", 2)
	w.lost = "broken"
	w.play(t, 11*time.Second)
	if want := []string{"deep emptydirfs.limit", "wide emptydirfs.limit"}; !reflect.DeepEqual(w.evicted, want) {
		t.Errorf("evicted %v, want %v", w.evicted, want)
	}
}

func TestPodsThatAreGoneAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.add("p", pod().container("c", "1Mi"))
	m := w.manager(t)
	var wg sync.WaitGroup
	m.round(t.Context(), &wg, time.Now())
	if len(m.looks) != 1 {
		t.Fatalf("remembers %v", m.looks)
	}
	w.pods = nil
	m.round(t.Context(), &wg, time.Now())
	if len(m.looks) != 0 {
		t.Errorf("still remembers %v", m.looks)
	}
}
