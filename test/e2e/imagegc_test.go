package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestAFullImageFileSystemIsToldByEvents: in the kubelet's words, and the failure when it comes again.
func TestAFullImageFileSystemIsToldByEvents(t *testing.T) {
	t.Parallel()
	d := harness.StartDockerd(t, harness.DockerdConfig{DataSize: 64 << 20})
	n := harness.NewNode(t, harness.SharedCluster(t), harness.AgentConfig{Docker: d, Config: map[string]any{
		"imageMinimumGCAge": "10s", "imageGCHighThresholdPercent": 85, "evictionHard": map[string]string{"memory.available": "1Mi"}, // not imagefs.available
	}})
	d.LoadBig(t, "test.local/idle:1", 1<<20) // what comes of age is looked at again
	d.Fill(t, 95)
	n.Start()
	n.WaitReady()
	// One failure is not told as ImageGCFailed. The next look is soon where the image is still too young
	// at the first, and after the period of five minutes where the agent knows that late which images are wanted.
	const patience = 5*time.Minute + harness.Patience
	for _, reason := range []string{"FreeDiskSpaceFailed", "ImageGCFailed"} {
		harness.Eventually(t, "the node has an event "+reason, patience, func() error {
			list, err := n.Cluster.Client.CoreV1().Events(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{
				FieldSelector: "involvedObject.kind=Node,involvedObject.name=" + n.Node() + ",reason=" + reason})
			if err != nil {
				return err
			}
			for _, e := range list.Items {
				const want, of = "Insufficient free disk space on the node's image filesystem (", "% of 64.0 MiB used). Failed to free sufficient space by deleting unused images (freed "
				if e.Type == v1.EventTypeWarning && strings.HasPrefix(e.Message, want) && strings.Contains(e.Message, of) {
					return nil
				}
			}
			return fmt.Errorf("events: %+v", list.Items)
		}, n.Explain)
	}
	if _, err := d.Client.ImageInspect(t.Context(), "test.local/idle:1"); err == nil {
		t.Error("the image that nobody uses is still there")
	}
}
