package nodeobject

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestAllocatable(t *testing.T) {
	capacity := resources("cpu", "4", "memory", "8Gi", "ephemeral-storage", "100Gi", "pods", "110")
	tests := []struct {
		name     string
		capacity v1.ResourceList
		reserved Reserved
		want     v1.ResourceList
	}{
		{"nothing is kept", capacity, Reserved{}, capacity},
		{"system and kube", capacity, Reserved{System: resources("cpu", "500m", "memory", "1Gi"), Kube: resources("cpu", "500m")},
			resources("cpu", "3", "memory", "7Gi", "ephemeral-storage", "100Gi", "pods", "110")},
		{"room to evict in", capacity, Reserved{Eviction: []options.Threshold{
			{Signal: options.MemoryAvailable, Amount: options.Amount{Quantity: 1 << 30}}, {Signal: options.NodefsAvailable, Amount: options.Amount{Percent: 10}},
			{Signal: options.NodefsInodesFree, Amount: options.Amount{Percent: 5}}, {Signal: options.MemoryAvailable, Amount: options.Amount{Quantity: 2 << 30}, Grace: time.Minute}}},
			resources("cpu", "4", "memory", "7Gi", "ephemeral-storage", "90Gi", "pods", "110")},
		{"never below none", capacity, Reserved{System: resources("cpu", "9")},
			resources("cpu", "0", "memory", "8Gi", "ephemeral-storage", "100Gi", "pods", "110")},
		{"what is not there cannot be kept", resources("cpu", "1"), Reserved{System: resources("memory", "1Gi")}, resources("cpu", "1")},
		{"huge pages are no memory", resources("memory", "8Gi", "hugepages-2Mi", "1Gi", "hugepages-1Gi", "2Gi"), Reserved{},
			resources("memory", "5Gi", "hugepages-2Mi", "1Gi", "hugepages-1Gi", "2Gi")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.capacity.DeepCopy()
			if got := allocatable(tt.capacity, tt.reserved); !equality.Semantic.DeepEqual(got, tt.want) {
				t.Errorf("allocatable() = %v, want %v", got, tt.want)
			}
			if !equality.Semantic.DeepEqual(tt.capacity, before) {
				t.Error("the capacity was modified")
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHugePages(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "hugepages-2048kB", "nr_hugepages"), "512\n")
	write(t, filepath.Join(dir, "hugepages-1048576kB", "nr_hugepages"), "0\n")
	write(t, filepath.Join(dir, "other", "nr_hugepages"), "3\n")
	got := hugePages(dir)
	if want := resources("hugepages-2Mi", "1Gi", "hugepages-1Gi", "0"); !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("hugePages() = %v, want %v", got, want)
	}
	if got := hugePages(filepath.Join(dir, "none")); len(got) != 0 {
		t.Errorf("of a kernel without: %v, want none", got)
	}
}

func TestOSImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "os-release")
	if got := osImage(path); got != runtime.GOOS {
		t.Errorf("without the file: %q, want %q", got, runtime.GOOS)
	}
	write(t, path, "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n")
	if got := osImage(path); got != "Debian GNU/Linux 13 (trixie)" {
		t.Errorf("osImage() = %q", got)
	}
}

func TestGaugeMeasuresThisMachine(t *testing.T) {
	cfg := GaugeConfig{Root: t.TempDir(), MaxPods: 17, Reserved: Reserved{System: resources("cpu", "100m")}, Period: time.Second, Clock: clock.RealClock{}}
	g, err := NewGauge(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := g.Machine()
	if m.Capacity.Pods().Value() != 17 || m.Capacity.Cpu().Value() < int64(runtime.NumCPU()) || m.Capacity.Memory().Value() < 1<<20 || m.Capacity.StorageEphemeral().Value() < 1<<20 {
		t.Errorf("capacity = %v", m.Capacity)
	}
	if m.Allocatable.Cpu().MilliValue() != m.Capacity.Cpu().MilliValue()-100 {
		t.Errorf("allocatable = %v of %v", m.Allocatable.Cpu(), m.Capacity.Cpu())
	}
	if m.Info.BootID == "" || m.Info.KernelVersion == "" || m.Info.Architecture != runtime.GOARCH {
		t.Errorf("info = %+v", m.Info)
	}
	cfg.PodsPerCore = 1
	g, err = NewGauge(cfg)
	if list := g.Capacity(); err != nil || list.Pods().Value() != min(17, m.Capacity.Cpu().Value()) {
		t.Errorf("pods by CPUs: %v, %v", list, err)
	}
	cfg.Root = "/no/such/directory"
	if g, err = NewGauge(cfg); err != nil || !slices.Equal(missing(g.Machine()), []string{"ephemeral-storage"}) {
		t.Errorf("without the directory: missing %v, %v", missing(g.Machine()), err)
	}
	cfg.NoLocalStorage = true
	if g, err = NewGauge(cfg); err != nil || len(missing(g.Machine())) != 0 {
		t.Errorf("without local storage: missing %v, %v", missing(g.Machine()), err)
	}
	cfg.Reserved = Reserved{System: resources("cpu", "1000")}
	if _, err = NewGauge(cfg); err == nil {
		t.Error("no error of more reserved than there is")
	}
}

func TestGaugeNoticesWhatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		g, err := NewGauge(GaugeConfig{
			Root: t.TempDir(), MaxPods: 1, Reserved: Reserved{System: resources("memory", "1Gi")},
			Period: 10 * time.Second, Changed: []func(){func() { told.Add(1) }}, Clock: clock.RealClock{},
		})
		if err != nil {
			t.Fatal(err)
		}
		type look struct {
			list v1.ResourceList
			err  error
		}
		var next atomic.Pointer[look]
		g.measure = func() (Machine, error) { l := next.Load(); return Machine{Capacity: l.list.DeepCopy()}, l.err }
		testrun.Start(t, g.Run)
		for _, step := range []struct {
			name              string
			measured          v1.ResourceList
			err               error
			capacity, allowed v1.ResourceList
			told              int64
		}{
			{"as it is", resources("cpu", "2", "memory", "4Gi", "pods", "1", "ephemeral-storage", "9Gi"), nil,
				resources("cpu", "2", "memory", "4Gi", "pods", "1", "ephemeral-storage", "9Gi"), resources("cpu", "2", "memory", "3Gi", "pods", "1", "ephemeral-storage", "9Gi"), 1},
			{"nothing new", resources("cpu", "2", "memory", "4096Mi", "pods", "1", "ephemeral-storage", "9Gi"), nil,
				resources("cpu", "2", "memory", "4Gi", "pods", "1", "ephemeral-storage", "9Gi"), resources("cpu", "2", "memory", "3Gi", "pods", "1", "ephemeral-storage", "9Gi"), 1},
			{"memory, a CPU and huge pages come", resources("cpu", "3", "memory", "8Gi", "pods", "1", "ephemeral-storage", "9Gi", "hugepages-2Mi", "1Gi"), nil,
				resources("cpu", "3", "memory", "8Gi", "pods", "1", "ephemeral-storage", "9Gi", "hugepages-2Mi", "1Gi"),
				resources("cpu", "3", "memory", "6Gi", "pods", "1", "ephemeral-storage", "9Gi", "hugepages-2Mi", "1Gi"), 2},
			{"the disk does not answer", resources("cpu", "3", "memory", "8Gi", "pods", "1", "hugepages-2Mi", "1Gi"), errors.New("EIO"),
				resources("cpu", "3", "memory", "8Gi", "pods", "1", "ephemeral-storage", "9Gi", "hugepages-2Mi", "1Gi"),
				resources("cpu", "3", "memory", "6Gi", "pods", "1", "ephemeral-storage", "9Gi", "hugepages-2Mi", "1Gi"), 2},
			{"less than is reserved", resources("cpu", "1", "memory", "512Mi", "pods", "1", "ephemeral-storage", "9Gi"), nil,
				resources("cpu", "1", "memory", "512Mi", "pods", "1", "ephemeral-storage", "9Gi"), resources("cpu", "1", "memory", "0", "pods", "1", "ephemeral-storage", "9Gi"), 3},
		} {
			next.Store(&look{step.measured, step.err})
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := g.Capacity(); !equality.Semantic.DeepEqual(got, step.capacity) {
				t.Errorf("%s: capacity %v", step.name, got)
			}
			if got := g.Allocatable(); !equality.Semantic.DeepEqual(got, step.allowed) {
				t.Errorf("%s: allocatable %v", step.name, got)
			}
			if n := told.Load(); n != step.told {
				t.Errorf("%s: told %d times, want %d", step.name, n, step.told)
			}
		}
	})
}

func TestOnlineCPUs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "online")
	for text, want := range map[string]int{"0-3,8\n": 5, "0\n": 1, "\n": runtime.NumCPU(), "x": runtime.NumCPU()} {
		write(t, path, text)
		if got := onlineCPUs(path); got != want {
			t.Errorf("%q: %d CPUs, want %d", text, got, want)
		}
	}
}

// BenchmarkGauge is what a look at the machine costs that finds nothing new.
func BenchmarkGauge(b *testing.B) {
	g, err := NewGauge(GaugeConfig{Root: b.TempDir(), MaxPods: 110, Period: time.Second, Clock: clock.RealClock{}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		g.look()
	}
}

func TestMoreReservedThanThereIsIsAnError(t *testing.T) {
	capacity := resources("cpu", "2", "memory", "1Gi")
	if err := tooMuch(capacity, Reserved{System: resources("cpu", "1", "pid", "100"), Kube: resources("cpu", "1", "memory", "1Gi")}); err != nil {
		t.Error(err)
	}
	err := tooMuch(capacity, Reserved{System: resources("cpu", "1500m"), Kube: resources("cpu", "1", "memory", "2Gi")})
	want := `invalid Node Allocatable configuration. Resource "cpu" has a reservation of 2500m but capacity of 2. Expected capacity >= reservation
invalid Node Allocatable configuration. Resource "memory" has a reservation of 2Gi but capacity of 1Gi. Expected capacity >= reservation`
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}
