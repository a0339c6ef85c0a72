package devicemanager

import (
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// The file was written by the kubelet's own code (k8s.io/kubernetes v1.37.2, cm/devicemanager/checkpoint).
const kubelets = "testdata/kubelet-1.37.json"

func TestTheKubeletsCheckpointIsReadAndWrittenAsItIs(t *testing.T) {
	text, err := os.ReadFile(kubelets)
	if err != nil {
		t.Fatal(err)
	}
	all, registered, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	const uid = types.UID("11111111-2222-3333-4444-555555555555")
	gpu, nic := all[uid]["c"]["example.com/gpu"], all[uid]["c"]["example.com/nic"]
	if gpu == nil || nic == nil {
		t.Fatalf("read %v", all)
	}
	if gpu.devices["gpu-0"] != numa.Of(0, 1) || gpu.devices["gpu-1"] != numa.Of(1) || nic.devices["a"] != 0 || len(nic.devices) != 1 {
		t.Errorf("devices %v and %v", gpu.devices, nic.devices)
	}
	if gpu.response.Envs["GPU"] != "gpu-0" || gpu.response.Devices[0].HostPath != "/dev/null" || gpu.response.CdiDevices[0].Name != "example.com/gpu=0" {
		t.Errorf("response %v", gpu.response)
	}
	if !slices.Equal(registered, []string{"example.com/gpu", "example.com/nic"}) {
		t.Errorf("registered %q", registered)
	}
	again, err := all.encode(map[string][]string{"example.com/gpu": {"gpu-0", "gpu-1"}, "example.com/nic": {}})
	if err != nil || string(again) != string(text) {
		t.Errorf("written again (%v):\n%s\nwant\n%s", err, again, text)
	}
}

func TestADamagedCheckpointIsNoticed(t *testing.T) {
	text, err := os.ReadFile(kubelets)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{}", strings.Replace(string(text), "gpu-1", "gpu-2", 1), string(text[:100])} {
		if _, _, err := decode([]byte(bad)); err == nil {
			t.Errorf("accepted %.80q", bad)
		}
	}
}
