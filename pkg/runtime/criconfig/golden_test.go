package criconfig

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

var update = flag.Bool("update", false, "write the golden files")

func testNode() NodeConfig {
	return NodeConfig{
		Name:    "node-1",
		HostIPs: func() []string { return []string{"192.0.2.10", "2001:db8::10"} },
		Allocatable: func() v1.ResourceList {
			return v1.ResourceList{
				v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("8Gi"),
				v1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
			}
		},
		MemoryCapacity:    8 << 30,
		HugePageSizes:     []string{"2MB", "1GB"},
		RecursiveReadOnly: true,
		ClusterDomain:     "cluster.local",
		ClusterDNS:        []string{"10.96.0.10"},
		ResolvConf: func() ([]byte, error) {
			return []byte("nameserver 192.0.2.53\nsearch example.org.\noptions timeout:2\n"), nil
		},
		CgroupParent: func(p *v1.Pod) string { return "/kubepods/pod" + string(p.UID) },
	}
}

// places answers for the volumes of a pod without touching a disk.
type places struct{}

func (places) Path(pod *v1.Pod, name string) (volume.Path, error) {
	for _, v := range pod.Spec.Volumes {
		if v.Name != name {
			continue
		}
		if v.HostPath != nil {
			return volume.Path{Host: v.HostPath.Path}, nil
		}
		return volume.Path{Host: "/pods/" + string(pod.UID) + "/volumes/" + name, ReadOnly: v.ConfigMap != nil, Relabel: true}, nil
	}
	return volume.Path{}, fmt.Errorf("the pod has no volume %q", name)
}

func (places) SubPath(_ context.Context, _ *v1.Pod, container string, index int, name, sub string) (string, error) {
	return fmt.Sprintf("/subpaths/%s/%s/%d(%s)", name, container, index, sub), nil
}

func (places) MountPoints(context.Context, *v1.Pod, *v1.Container) error { return nil }

func (places) Groups(*v1.Pod) []int64 { return nil }

func (places) ReadFile(_ context.Context, _ *v1.Pod, name, path string, _ int64) ([]byte, error) {
	return fmt.Appendf(nil, "FROM='%s of %s'\n", path, name), nil
}

func testInput() ContainerInput {
	return ContainerInput{
		Node:               testNode(),
		RestartCount:       3,
		PodIPs:             []string{"10.0.0.5", "fd00::5"},
		ImageRef:           "sha256:abc",
		Image:              &cri.Image{Id: "sha256:abc", Uid: &cri.Int64Value{Value: 65534}},
		Volumes:            places{},
		HostsPath:          "/pods/etc-hosts",
		TerminationLogPath: "/pods/termination-log",
		ServiceEnv:         map[string]string{"SHOP_PORT": "tcp://10.96.0.1:80", "KUBERNETES_SERVICE_HOST": "10.96.0.1"},
	}
}

func readPod(t *testing.T, path string) *v1.Pod {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pod := &v1.Pod{}
	if err := yaml.UnmarshalStrict(text, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestGoldenFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			pod := readPod(t, file)
			out := map[string]any{}
			sandbox, err := Sandbox(pod, 2, testNode())
			if err != nil {
				t.Fatal(err)
			}
			out["sandbox"] = plain(t, sandbox)
			add := func(c *v1.Container, in ContainerInput) {
				config, err := Container(t.Context(), pod, c, in)
				if err != nil {
					t.Fatal(err)
				}
				out["container "+c.Name] = plain(t, config)
			}
			for i := range pod.Spec.InitContainers {
				add(&pod.Spec.InitContainers[i], testInput())
			}
			for i := range pod.Spec.Containers {
				in := testInput()
				if pod.Spec.HostNetwork {
					in.PodIPs = nil
				}
				add(&pod.Spec.Containers[i], in)
			}
			for _, e := range pod.Spec.EphemeralContainers {
				c, in := v1.Container(e.EphemeralContainerCommon), testInput()
				in.TargetID = "id-of-" + e.TargetContainerName
				add(&c, in)
			}
			compareGolden(t, strings.TrimSuffix(file, ".yaml")+".golden.json", out)
		})
	}
}

// plain turns a message into what a person can read: environment values as
// text, defaults left out.
func plain(t *testing.T, m proto.Message) any {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if envs, ok := v["envs"].([]any); ok {
		for i, e := range envs {
			kv := e.(map[string]any)
			value := ""
			if s, ok := kv["value"].(string); ok {
				b, err := base64.StdEncoding.DecodeString(s)
				if err != nil {
					t.Fatal(err)
				}
				value = string(b)
			}
			envs[i] = fmt.Sprintf("%s=%s", kv["key"], value)
		}
	}
	return v
}

func compareGolden(t *testing.T, path string, v any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run go test -update)", err)
	}
	if bytes.Equal(b.Bytes(), want) {
		return
	}
	got, old := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(got), len(old)) {
		if got[i] != old[i] {
			t.Fatalf("%s differs in line %d:\n got %s\nwant %s\n(go test -update writes it anew)", path, i+1, got[i], old[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", path, len(got), len(old))
}

func TestConfigurationIsTheSameEveryTime(t *testing.T) {
	pod := readPod(t, "testdata/full.yaml")
	first, err := Container(t.Context(), pod, &pod.Spec.Containers[0], testInput())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := Container(t.Context(), pod, &pod.Spec.Containers[0], testInput())
		if err != nil || !proto.Equal(first, again) {
			t.Fatalf("another configuration for the same input: %v\n%v\n%v", err, first, again)
		}
	}
}
