package cadvisor

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

var began = time.Unix(1700000000, 0)

func somePod() seen {
	return seen{
		pod: &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u"},
			Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "a", Image: "busybox"}, {Name: "b", Image: "nginx"}}},
		},
		status: v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{
			Name: "a", Image: "docker.io/busybox:latest", ContainerID: "docker://aaa", State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(began)}},
		}}},
		actual: &actual.Pod{
			UID:       "u",
			Sandboxes: []actual.Sandbox{{ID: "sss", State: actual.StateRunning}, {ID: "old", State: actual.StateExited}},
			Containers: []actual.Container{
				{ID: "aaa", Name: "a", State: actual.StateRunning}, {ID: "bbb", Name: "b", State: actual.StateRunning, CreatedAt: began},
				{ID: "dead", Name: "b", State: actual.StateExited},
			},
		},
	}
}

func TestSubjectsOfAPod(t *testing.T) {
	in := func(cgroup string, below ...string) seen {
		s := somePod()
		s.cgroup, s.below = cgroup, below
		return s
	}
	for name, tt := range map[string]struct {
		seen          seen
		want, unknown []string // id of the cgroup, container, image
	}{
		"cgroupfs": {
			seen: in("/kubepods/podu", "sss", "aaa", "bbb", "dead"),
			want: []string{"/kubepods/podu  ", "/kubepods/podu/sss  pause", "/kubepods/podu/aaa a docker.io/busybox:latest", "/kubepods/podu/bbb b nginx"},
		},
		"systemd": {
			seen: in("/kubepods.slice/kubepods-podu.slice", "docker-aaa.scope", "cri-containerd-bbb.scope", "crio-sss.scope"),
			want: []string{
				"/kubepods.slice/kubepods-podu.slice  ", "/kubepods.slice/kubepods-podu.slice/crio-sss.scope  pause",
				"/kubepods.slice/kubepods-podu.slice/docker-aaa.scope a docker.io/busybox:latest", "/kubepods.slice/kubepods-podu.slice/cri-containerd-bbb.scope b nginx",
			},
		},
		"some elsewhere": {
			seen: in("/kubepods/podu", "aaa"),
			want: []string{"/kubepods/podu  ", "/kubepods/podu/aaa a docker.io/busybox:latest"}, unknown: []string{"  pause", " b nginx"},
		},
		"no cgroups of pods": {seen: in(""), unknown: []string{"  pause", " a docker.io/busybox:latest", " b nginx"}},
	} {
		t.Run(name, func(t *testing.T) {
			words := func(all []subject) (out []string) {
				for _, s := range all {
					if s.pod != "web" || s.namespace != "shop" {
						t.Errorf("%+v is of another pod", s)
					}
					out = append(out, s.id+" "+s.container+" "+s.image)
				}
				return out
			}
			all, unknown := tt.seen.of("pause")
			if got := words(all); !slices.Equal(got, tt.want) {
				t.Errorf("subjects %q, want %q", got, tt.want)
			}
			if got := words(unknown); !slices.Equal(got, tt.unknown) {
				t.Errorf("unknown %q, want %q", got, tt.unknown)
			}
		})
	}
}

func write(t *testing.T, p *page) string {
	t.Helper()
	var out bytes.Buffer
	for _, f := range p.families() {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// parsed reads the text as Prometheus does.
func parsed(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	var p = expfmt.NewTextParser(model.LegacyValidation)
	all, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func busy() *usage {
	return &usage{
		Full: cgroupstats.Full{
			Usage: cgroupstats.Usage{CPU: 1500000000, Memory: 10, RSS: 3, Pressure: cgroupstats.Pressure{CPU: &cgroupstats.Stall{Some: cgroupstats.Waited{Total: 2500000}}}},
			At:    began, HasMemory: true, Quota: 5, Period: 10, Throttling: cgroupstats.Throttling{Periods: 4, Throttled: 2, ThrottledTime: 250000000},
		},
		started: began, counted: true,
		interfaces: []cgroupstats.Interface{{Name: "eth0", RxBytes: 7}},
		disks:      []disk{{"/dev/vda", cgroupstats.DeviceIO{Major: 254, Reads: 9}}},
		storage:    []storage{{device: "/dev/vda", used: 5, capacity: 100}},
	}
}

func TestEveryFamilyIsToldOnce(t *testing.T) {
	p := newPage()
	p.add(labels{id: "/a", container: "c", pod: "p", namespace: "n", image: "i", name: "x"}, busy())
	text := write(t, p)
	for _, want := range []string{
		`container_cpu_usage_seconds_total{container="c",cpu="total",id="/a",image="i",name="x",namespace="n",pod="p"} 1.5 1700000000000`,
		`container_cpu_cfs_throttled_seconds_total{container="c",id="/a",image="i",name="x",namespace="n",pod="p"} 0.25 1700000000000`,
		`container_network_receive_bytes_total{container="c",id="/a",image="i",interface="eth0",name="x",namespace="n",pod="p"} 7 1700000000000`,
		`container_fs_reads_total{container="c",device="/dev/vda",id="/a",image="i",name="x",namespace="n",pod="p"} 9 1700000000000`,
		`container_pressure_cpu_waiting_seconds_total{container="c",id="/a",image="i",name="x",namespace="n",pod="p"} 2.5 1700000000000`,
		`container_start_time_seconds{container="c",id="/a",image="i",name="x",namespace="n",pod="p"} 1.7e+09` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
	if !slices.IsSortedFunc(families, func(a, b family) int { return strings.Compare(a.name, b.name) }) {
		t.Error("the families are not in the order of their names")
	}
	told := parsed(t, text)
	for _, f := range families {
		got := told[f.name]
		if strings.HasPrefix(f.name, "container_pressure_") && !strings.Contains(f.name, "_cpu_") {
			continue // not measured here
		}
		if got == nil || got.GetType() != f.kind || got.GetHelp() != f.help {
			t.Errorf("%s: %v", f.name, got)
		}
	}
}

func TestWhatHasNoQuotaOrMemoryOfItsOwn(t *testing.T) {
	p := newPage()
	p.add(labels{id: "/"}, &usage{Full: cgroupstats.Full{At: began}})
	for name := range p.byName {
		if strings.Contains(name, "_memory_") || strings.Contains(name, "_cfs_") || strings.Contains(name, "_pressure_") {
			t.Errorf("%s is told of what has none", name)
		}
	}
}

func TestHostileLabels(t *testing.T) {
	p := newPage()
	image := "x\"} 1\nbad_metric 1 # \\" + strings.Repeat("y", 100000)
	p.add(labels{id: "/a", image: image, container: "\xff\xfe"}, busy())
	told := parsed(t, write(t, p))
	if told["bad_metric"] != nil || len(told) != len(p.byName) {
		t.Error("a label has made a metric")
	}
	for _, l := range told["container_memory_rss"].Metric[0].Label {
		if len(l.GetValue()) > maxLabel {
			t.Errorf("label %s has %d bytes", l.GetName(), len(l.GetValue()))
		}
	}
}

func TestMetricsOfARuntime(t *testing.T) {
	described := []*cri.MetricDescriptor{
		{Name: "container_cpu_usage_seconds_total", Help: "theirs", LabelKeys: []string{"id", "name"}},
		{Name: "container_new_total", Help: "New.", LabelKeys: []string{"id", "zone", "bad-label"}},
		{Name: "go_goroutines", LabelKeys: []string{"id"}}, {Name: "container_bad name", LabelKeys: []string{"id"}},
	}
	m := func(name string, labels ...string) *cri.Metric {
		return &cri.Metric{Name: name, LabelValues: labels, MetricType: cri.MetricType_COUNTER, Value: &cri.UInt64Value{Value: 3}}
	}
	list := []*cri.PodSandboxMetrics{{PodSandboxId: "sss", ContainerMetrics: []*cri.ContainerMetrics{
		{ContainerId: "aaa", Metrics: []*cri.Metric{
			m("container_cpu_usage_seconds_total", "aaa", "a"), m("container_new_total", "/vm/aaa", "z", "b"), m("go_goroutines", "aaa"), m("container_bad name", "aaa"),
			m("container_cpu_usage_seconds_total", "too few"), m("not described"),
		}},
		{ContainerId: "of another agent", Metrics: []*cri.Metric{m("container_cpu_usage_seconds_total", "o", "o")}},
	}}}
	p := newPage()
	p.addCRI(described, list, []subject{{labels: labels{name: "aaa", container: "a", pod: "p", namespace: "n", image: "i"}}})
	want := `# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="a",cpu="total",id="/aaa",image="i",name="aaa",namespace="n",pod="p"} 3
# HELP container_new_total New.
# TYPE container_new_total counter
container_new_total{container="a",id="/vm/aaa",image="i",name="aaa",namespace="n",pod="p",zone="z"} 3
`
	if got := write(t, p); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCoresAndSockets(t *testing.T) {
	two := "processor\t: 0\nphysical id\t: 0\ncore id\t\t: 0\n\nprocessor\t: 1\nphysical id\t: 0\ncore id\t\t: 0\n\nprocessor\t: 2\nphysical id\t: 1\ncore id\t\t: 0\n"
	if got := parseCPUs([]byte(two)); got != (cpus{cores: 2, sockets: 2}) {
		t.Errorf("%+v", got)
	}
	p := newPage()
	addMachine(p, "v1.37.2", true)
	text := write(t, p)
	for _, want := range []string{"machine_cpu_cores{boot_id=", "machine_memory_bytes{", "cadvisor_version_info{", "container_scrape_error 1\n", "machine_scrape_error 0\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// The agent, the runtime and the system's services may be in one cgroup.
func TestNoSeriesComesTwice(t *testing.T) {
	r, err := cgroupstats.New()
	if err != nil {
		t.Skip(err)
	}
	below := r.Children("/")
	if len(below) == 0 {
		t.Skip("this machine has no cgroup below the root")
	}
	shared := "/" + below[0]
	source, err := New(Config{
		Runtime: noRuntime{}, Observed: func() []*actual.Pod { return nil }, Pod: func(types.UID) (*v1.Pod, bool) { return nil, false },
		Status: func(types.UID) (v1.PodStatus, bool) { return v1.PodStatus{}, false }, System: []string{shared, "/nowhere", shared}, Root: t.TempDir(), Version: "v1.37.2",
	})
	if err != nil {
		t.Fatal(err)
	}
	families, err := source.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range families {
		told := map[string]bool{}
		for _, m := range f.Metric {
			who := fmt.Sprint(m.Label)
			if told[who] {
				t.Errorf("%s comes twice with %s", f.GetName(), who)
			}
			told[who] = true
			found = found || strings.Contains(who, shared)
		}
	}
	if !found {
		t.Errorf("nothing is told of the cgroup %s", shared)
	}
}

// noRuntime is not asked.
type noRuntime struct{ Runtime }

// BenchmarkPage compares one page of 300 cgroups, which is a node with 100 pods, with reading
// the files of as many cgroups.
func BenchmarkPage(b *testing.B) {
	r, err := cgroupstats.New()
	if err != nil {
		b.Skip(err)
	}
	const cgroups = 300
	read := func(b *testing.B) (all []*usage) {
		for range cgroups {
			f, err := r.Full("/")
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, &usage{Full: f})
		}
		return all
	}
	b.Run("files", func(b *testing.B) {
		for b.Loop() {
			read(b)
		}
	})
	b.Run("page", func(b *testing.B) {
		for b.Loop() {
			p := newPage()
			for i, u := range read(b) {
				p.add(labels{id: "/kubepods/" + text(uint64(i)), name: "x", image: "busybox", container: "c", pod: "p", namespace: "n"}, u)
			}
			var out bytes.Buffer
			for _, f := range p.families() {
				if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
