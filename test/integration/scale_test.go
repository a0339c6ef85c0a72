package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestFiftyPodsComeAndGoWithoutATrace starts fifty pods at once, twice, and
// counts what is left each time they are gone.
func TestFiftyPodsComeAndGoWithoutATrace(t *testing.T) {
	d := harness.StartDockerd(t, harness.DockerdConfig{})
	a := harness.StartAgent(t, harness.AgentConfig{Docker: d, Args: []string{"--v", "2"}})
	// Start with one pod: what is made only once stays.
	a.Write("first.yaml", harness.Pod("first", ""))
	a.WaitRunning("first")
	a.Remove("first.yaml")
	a.WaitGone("first")
	before, err := a.Audit()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		var pods []*v1.Pod
		for i := range 50 {
			pods = append(pods, harness.Pod(fmt.Sprintf("r%dp%02d", round, i), ""))
		}
		began := time.Now()
		a.Write("pods.yaml", pods...)
		harness.Eventually(t, "all fifty are Running", 2*harness.Patience, func() error {
			list, err := a.Pods()
			if err != nil {
				return err
			}
			n := 0
			for i := range list.Items {
				if harness.Ready(&list.Items[i]) {
					n++
				}
			}
			if n != 50 {
				return fmt.Errorf("%d are", n)
			}
			return nil
		}, a.Explain)
		took := time.Since(began)
		a.CheckExactly(pods...)
		during, err := a.Audit()
		if err != nil {
			t.Fatal(err)
		}
		a.Remove("pods.yaml")
		harness.Eventually(t, "all fifty are gone", 2*harness.Patience, func() error {
			own, err := a.Containers()
			if err == nil && len(own) > 0 {
				err = fmt.Errorf("%d containers are left", len(own))
			}
			return err
		}, a.Explain)
		t.Logf("50 pods ran after %v; the agent then held %d MiB, %d goroutines, %d file descriptors",
			took.Round(10*time.Millisecond), during.RSS/1024, during.Goroutines, during.FDs)
	}
	// Docker itself removes the names of network namespaces once a minute.
	harness.Eventually(t, "nothing is left of them", 2*harness.Patience, func() error {
		after, err := a.Audit()
		if err != nil {
			return err
		}
		return before.Leaks(after)
	}, a.Explain)
}

// TestOOMScoreIsWhatTheHostAllows: where the kernel refuses to lower
// oom_score_adj, pods start all the same and one warning says so.
func TestOOMScoreIsWhatTheHostAllows(t *testing.T) {
	a := start(t)
	both := v1.ResourceList{v1.ResourceCPU: resource.MustParse("20m"), v1.ResourceMemory: resource.MustParse("16Mi")}
	a.Write("pods.yaml",
		harness.Pod("guaranteed", "", func(p *v1.Pod) { p.Spec.Containers[0].Resources = v1.ResourceRequirements{Limits: both} }),
		harness.Pod("besteffort", ""))
	a.WaitRunning("guaranteed")
	a.WaitRunning("besteffort")
	score := func(pid int) int {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := score(pid(t, a, "besteffort")); got != 1000 {
		t.Errorf("BestEffort container: oom_score_adj %d, want 1000", got)
	}
	warned := 0
	for _, line := range strings.Split(a.Log(), "\n") {
		if strings.HasPrefix(line, "W") && strings.Contains(line, "oom_score_adj") {
			warned++
		}
	}
	guaranteed := score(pid(t, a, "guaranteed"))
	if mayLowerOOMScore() {
		if guaranteed != -997 || warned != 0 {
			t.Errorf("Guaranteed container: oom_score_adj %d with %d warnings, want -997 with none", guaranteed, warned)
		}
		return
	}
	own := score(os.Getpid())
	if guaranteed < own || guaranteed > 0 || warned != 1 {
		t.Errorf("Guaranteed container: oom_score_adj %d (this process has %d) with %d warnings, want what the host allows and one warning", guaranteed, own, warned)
	}
}

// mayLowerOOMScore reports whether this process, and so the daemon that it started,
// has CAP_SYS_RESOURCE (bit 24).
func mayLowerOOMScore() bool {
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "CapEff:\t"); ok {
			bits, err := strconv.ParseUint(value, 16, 64)
			return err == nil && bits&(1<<24) != 0
		}
	}
	return false
}
