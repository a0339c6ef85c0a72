package integration

import (
	"errors"
	"os"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// A process that the kernel kills in a container is in the agent's log with its pod, also if the container
// goes on, which nothing else tells. The machine's own lack of memory cannot be tried here; that it is
// told from the same source, pkg/resources/oom tests.
func TestKernelsKillsAreToldWithTheirPod(t *testing.T) {
	if f, err := os.Open("/dev/kmsg"); err != nil {
		t.Skipf("the kernel's log cannot be read: %v", err)
	} else {
		f.Close()
	}
	a := start(t)
	a.Write("hog.yaml", harness.Pod("hog", `
		while :; do # the kernel may not tell all of one kill where others happen at the same time
			dd if=/dev/zero of=/dev/null bs=200M count=1
			sleep 3
		done`, func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("48Mi")}
	}))
	a.WaitRunning("hog")
	harness.Eventually(t, "the log has the killed process and its pod", harness.Patience, func() error {
		for line := range strings.Lines(a.Log()) {
			if strings.Contains(line, "out of memory") && strings.Contains(line, `process="dd"`) && strings.Contains(line, `pod="default/hog-`) && strings.Contains(line, `containerName="c"`) {
				return nil
			}
		}
		return errors.New("it does not")
	}, a.Explain)
	if p := a.WaitRunning("hog"); harness.Status(p, "c").RestartCount != 0 {
		t.Error("the container did not go on")
	}
}
