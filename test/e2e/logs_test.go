package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestFollowedLogIsRotated has kubectl follow a log that is rotated several times: it gets
// every line.
func TestFollowedLogIsRotated(t *testing.T) {
	t.Parallel()
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{Config: map[string]any{
		"containerLogMaxSize": "64Ki", "containerLogMaxFiles": 3, "containerLogMonitorInterval": "3s",
	}})
	ns := n.Namespace()
	// Some ten seconds long.
	const blocks, size = 500, 40
	script := "n=0; while [ $n -lt " + strconv.Itoa(blocks*size) + " ]; do seq $((n+1)) $((n+" + strconv.Itoa(size) + ")); n=$((n+" + strconv.Itoa(size) + ")); usleep 20000; done"
	pod := n.Create(ns, harness.Pod("p", script, quick, func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }))
	n.Await(ns, "p", "has started", func(p *v1.Pod) bool { return p.Status.Phase != v1.PodPending })
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	out, _, err := n.Cluster.Kubectl(ctx, nil, "-n", ns, "logs", "-f", "p")
	if err != nil {
		t.Fatalf("%v\n%s", err, n.Explain())
	}
	got := strings.Fields(string(out))
	if len(got) == 0 {
		t.Fatal("no lines")
	}
	// It begins with the file that is the log when kubectl has asked.
	first, _ := strconv.Atoi(got[0])
	for i, line := range got {
		if line != strconv.Itoa(first+i) {
			t.Fatalf("line %d is %s, after %d", i+1, line, first+i-1)
		}
	}
	if last := first + len(got) - 1; last != blocks*size {
		t.Errorf("it ends with line %d of %d", last, blocks*size)
	}
	harness.Eventually(t, "the log was rotated to one or two files", harness.Patience, func() error { // the last may still be compressed
		files, err := filepath.Glob(filepath.Join(n.Dir, "logs", ns+"_p_"+string(pod.UID), "c", "0.log.*"))
		if err == nil && (len(files) == 0 || len(files) > 2) {
			err = fmt.Errorf("files %v", files)
		}
		return err
	}, n.Explain)
}
