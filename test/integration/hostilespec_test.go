package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestWhatPodsSayOfThemselvesStopsNoList runs pods whose hooks together are longer than
// the 16 MiB that a kubelet takes as an answer of CRI. Of pods that come by an API server,
// of 1.5 MB at most, that takes a dozen. An agent that starts with them has to look
// at them all before it does anything for anybody.
func TestWhatPodsSayOfThemselvesStopsNoList(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{})
	names := []string{"long1", "long2"}
	for _, name := range names {
		a.Write(name+".yaml", harness.Pod(name, "", func(p *v1.Pod) {
			p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{
				Exec: &v1.ExecAction{Command: []string{"true", strings.Repeat("x", 9<<20)}},
			}}
		}))
	}
	for _, name := range names {
		a.WaitRunning(name)
	}
	a.Kill()
	a.Start()
	a.Write("beside.yaml", harness.Pod("beside", ""))
	a.WaitRunning("beside")
	harness.Eventually(t, "the agent is well", harness.Patience, func() error {
		if strings.Contains(a.Log(), "Could not list the runtime's pods") {
			return fmt.Errorf("it cannot list pods")
		}
		return nil
	})
	for _, name := range append(names, "beside") {
		a.Remove(name + ".yaml")
		a.WaitGone(name)
	}
}

// TestAPodOfVeryManyLabelsIsRefused has one pod say what would take 65 MB of the agent's
// memory while it lives, and the longest annotation that the API allows beside it.
func TestAPodOfVeryManyLabelsIsRefused(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{})
	labels := map[string]string{}
	for i := range 11_000 {
		labels[fmt.Sprint("l", i)] = "v"
	}
	a.Write("many.yaml", harness.Pod("many", "", func(p *v1.Pod) { p.Labels = labels }))
	a.Write("long.yaml", harness.Pod("long", "", func(p *v1.Pod) {
		p.Annotations = map[string]string{"a": strings.Repeat("x", 250<<10)}
	}))
	a.WaitRunning("long")
	harness.Eventually(t, "it is refused in plain words", harness.Patience, func() error {
		if !strings.Contains(a.Log(), "config.labels: with the annotations they are") {
			return errors.New("not yet")
		}
		return nil
	}, a.Explain)
	for _, name := range []string{"many", "long"} {
		a.Remove(name + ".yaml")
		a.WaitGone(name)
	}
}

// TestAShortSpecTakesNoMemory runs pods whose variables, arguments and probes are
// short in the spec and would be longer than any memory.
func TestAShortSpecTakesNoMemory(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, harness.AgentConfig{})
	// Whatever happens, it is not the machine's memory.
	if err := unix.Prlimit(a.PID(), unix.RLIMIT_AS, &unix.Rlimit{Cur: 4 << 30, Max: 4 << 30}, nil); err != nil {
		t.Fatal(err)
	}
	env := []v1.EnvVar{{Name: "V0", Value: "0123456789"}}
	for i := range 12 {
		env = append(env, v1.EnvVar{Name: fmt.Sprint("V", i+1), Value: strings.Repeat(fmt.Sprintf("$(V%d)", i), 10)})
	}
	a.Write("env.yaml", harness.Pod("env", "", func(p *v1.Pod) { p.Spec.Containers[0].Env = env }))
	a.WaitPod("env", "says why it cannot run", func(p *v1.Pod) bool {
		w := harness.Status(p, "c").State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, "longer than")
	})
	a.Write("probe.yaml", harness.Pod("probe", "", func(p *v1.Pod) {
		p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "LONG", Value: strings.Repeat("x", 100<<10)}}
		p.Spec.Containers[0].ReadinessProbe = &v1.Probe{
			ProbeHandler:  v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true", strings.Repeat("$(LONG)", 100_000)}}},
			PeriodSeconds: 1,
		}
	}))
	harness.Eventually(t, "the probe is told of", harness.Patience, func() error {
		if log := a.Log(); !strings.Contains(log, "Readiness probe errored") || !strings.Contains(log, "longer than") {
			return errors.New("not yet")
		}
		return nil
	}, a.Explain)
	a.Write("beside.yaml", harness.Pod("beside", ""))
	a.WaitRunning("beside")
}
