package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestTheNodeTellsWhatIsWrongWithItsHost: one agent, whose host has too many search domains, and more huge pages
// after a while; and which the host at last cannot give what is to be reserved.
func TestTheNodeTellsWhatIsWrongWithItsHost(t *testing.T) {
	t.Parallel()
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("search"+strings.Repeat(" a", 40)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{Config: map[string]any{"nodeStatusUpdateFrequency": "1s", "resolvConf": resolv}})
	told := func(reason, text string) {
		t.Helper()
		harness.Eventually(t, "the node tells "+reason, harness.Patience, func() error {
			events, err := n.Cluster.Client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{
				FieldSelector: "involvedObject.kind=Node,involvedObject.name=" + n.Node() + ",reason=" + reason,
			})
			if err != nil {
				return err
			}
			for _, e := range events.Items {
				if e.Type == v1.EventTypeWarning && strings.Contains(e.Message, text) && e.Source.Component == "kubelet" {
					return nil
				}
			}
			return fmt.Errorf("%d events: %v", len(events.Items), events.Items)
		}, n.Explain)
	}
	told("CheckLimitsForResolvConf", "contains search line consisting of more than 29 domains!")
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		told("CgroupV1", "cgroup v1 support is deprecated")
	}
	capacityFollows(t, n)

	n.Interrupt()
	n.SetConfig("systemReserved", map[string]string{"cpu": "100000"})
	n.Launch()
	if err := n.WaitExit(); err == nil {
		t.Error("the agent has started although more is reserved than there is")
	}
	told("KubeletSetupFailed", `Resource "cpu" has a reservation of 100k but capacity of`)
}

// capacityFollows has the machine set a huge page aside, and wants to see that in the node's status.
func capacityFollows(t *testing.T, n *harness.Node) {
	t.Helper()
	const file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Logf("this kernel has no huge pages of 2 MiB: %v", err)
		return
	}
	before, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	has := func(pages int) func() error {
		return func() error {
			node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
			if err != nil {
				return err
			}
			s := node.Status
			huge, may := s.Capacity["hugepages-2Mi"], s.Allocatable["hugepages-2Mi"]
			memory := s.Capacity.Memory().Value() - s.Allocatable.Memory().Value()
			if want := int64(pages) << 21; huge.Value() != want || may.Value() != want || memory < want {
				return fmt.Errorf("%s of huge pages, %s allocatable, and %d bytes of memory are not", huge.String(), may.String(), memory)
			}
			return nil
		}
	}
	harness.Eventually(t, "the node's status has the huge pages", harness.Patience, has(before), n.Explain)
	t.Cleanup(func() {
		if err := os.WriteFile(file, text, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(file, []byte(strconv.Itoa(before+1)), 0); err != nil {
		t.Logf("this host does not let huge pages be set aside: %v", err)
		return
	}
	if now, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(now)) != strconv.Itoa(before+1) {
		t.Logf("this host has no room for another huge page: %s %v", now, errors.Unwrap(err))
		return
	}
	harness.Eventually(t, "the node's status has one more", harness.Patience, has(before+1), n.Explain)
}
