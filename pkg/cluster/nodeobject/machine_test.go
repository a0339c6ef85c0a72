package nodeobject

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
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

func TestMeasure(t *testing.T) {
	m, err := Measure(t.TempDir(), 17, Reserved{System: resources("cpu", "100m")})
	if err != nil {
		t.Fatal(err)
	}
	if m.Capacity.Pods().Value() != 17 || m.Capacity.Cpu().Value() != int64(runtime.NumCPU()) || m.Capacity.Memory().Value() < 1<<20 || m.Capacity.StorageEphemeral().Value() < 1<<20 {
		t.Errorf("capacity = %v", m.Capacity)
	}
	if m.Allocatable.Cpu().MilliValue() != m.Capacity.Cpu().MilliValue()-100 {
		t.Errorf("allocatable = %v of %v", m.Allocatable.Cpu(), m.Capacity.Cpu())
	}
	if m.Info.BootID == "" || m.Info.KernelVersion == "" || m.Info.Architecture != runtime.GOARCH {
		t.Errorf("info = %+v", m.Info)
	}
	if _, err := Measure("/no/such/directory", 1, Reserved{}); err == nil {
		t.Error("no error of a directory that is not there")
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
