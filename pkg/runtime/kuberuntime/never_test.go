package kuberuntime_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// The world is a pod at a runtime, with an agent that looks, publishes and acts as the
// worker does, and with faults. It counts how often each container is started: the
// tests judge that, not what was decided on the way.
type world struct {
	pod        *v1.Pod
	sandboxes  []*cri.PodSandboxStatus   // newest first
	containers []*actual.ContainerStatus // newest first
	starts     map[string]int
	memory     v1.PodStatus // what the API server, or this agent, has last heard
	over       bool         // the worker has ended the pod
	dies       string       // "sandbox", "create": the agent is killed after its next such call
	struck     bool         // the sidecar has died by itself
	ids        int
}

func (w *world) clone() *world {
	n := *w
	n.sandboxes, n.starts = slices.Clone(w.sandboxes), maps.Clone(w.starts)
	n.containers = slices.Clone(w.containers)
	for i, c := range n.containers {
		copied := *c
		n.containers[i] = &copied
	}
	return &n
}

// String tells two worlds apart, whatever the IDs in them.
func (w *world) String() string {
	var b strings.Builder
	place := map[string]int{}
	for i, s := range w.sandboxes {
		place[s.Id] = i + 1
		fmt.Fprint(&b, s.State, s.Metadata.Attempt, " ")
	}
	for _, c := range w.containers {
		fmt.Fprint(&b, c.Name, c.State, c.ExitCode, "@", place[c.SandboxID], " ")
	}
	fmt.Fprint(&b, w.starts, w.over, w.dies, w.struck, w.memory.Phase)
	for _, s := range slices.Concat(w.memory.InitContainerStatuses, w.memory.ContainerStatuses) {
		for _, state := range []v1.ContainerState{s.State, s.LastTerminationState} {
			switch {
			case state.Running != nil:
				b.WriteString(" running")
			case state.Terminated != nil:
				fmt.Fprint(&b, " ", state.Terminated.ExitCode)
			default:
				b.WriteString(" -")
			}
		}
	}
	return b.String()
}

// sync is one step of the worker, and the look after it.
func (w *world) sync() {
	if w.over {
		return
	}
	w.act(w.publish(false))
	if !w.over {
		w.publish(false)
	}
}

func (w *world) publish(terminal bool) v1.PodStatus {
	w.memory = podstatus.Generate(podstatus.Input{Pod: w.pod, Observed: w.observed(), Old: w.memory, Terminal: terminal})
	return w.memory
}

func (w *world) observed() *actual.PodStatus {
	return &actual.PodStatus{UID: w.pod.UID, Sandboxes: slices.Clone(w.sandboxes), Containers: slices.Clone(w.containers)}
}

func (w *world) act(s v1.PodStatus) {
	pod := *w.pod
	pod.Status = s
	if s.Phase == v1.PodFailed || s.Phase == v1.PodSucceeded || kuberuntime.Over(&pod, w.observed()) {
		w.killAll()
		w.publish(true)
		w.over = true
		return
	}
	d := kuberuntime.Decide(&pod, w.observed())
	for _, id := range d.Remove {
		w.remove(func(c *actual.ContainerStatus) bool { return c.ID.ID == id })
	}
	for _, c := range w.containers {
		if slices.Contains(d.Kill, c.ID.ID) {
			c.State, c.ExitCode = actual.StateExited, 137
		}
	}
	if d.KillPod {
		w.killAll()
		if !d.CreateSandbox {
			return
		}
	}
	if d.CreateSandbox {
		w.ids++
		d.SandboxID = fmt.Sprint("s", w.ids)
		w.sandboxes = slices.Insert(w.sandboxes, 0, &cri.PodSandboxStatus{
			Id: d.SandboxID, Metadata: &cri.PodSandboxMetadata{Attempt: d.Attempt}, Network: &cri.PodSandboxNetworkStatus{Ip: "10.0.0.1"},
		})
		if w.killedAfter("sandbox") {
			return
		}
	}
	for _, name := range d.Start {
		w.remove(func(c *actual.ContainerStatus) bool {
			return c.Name == name && c.State == actual.StateCreated
		})
		w.ids++
		c := &actual.ContainerStatus{ID: actual.ContainerID{Runtime: "docker", ID: fmt.Sprint(name, w.ids)}, Name: name, SandboxID: d.SandboxID, State: actual.StateCreated}
		w.containers = slices.Insert(w.containers, 0, c)
		if w.killedAfter("create") {
			return
		}
		c.State = actual.StateRunning
		w.starts[name]++
	}
}

func (w *world) killedAfter(call string) bool {
	if w.dies != call {
		return false
	}
	w.dies = ""
	return true
}

func (w *world) killAll() {
	for _, c := range w.containers {
		if c.State == actual.StateRunning || c.State == actual.StateUnknown {
			c.State, c.ExitCode = actual.StateExited, 137
		}
	}
	w.sandboxesDie()
}

func (w *world) sandboxesDie() {
	for i, s := range w.sandboxes { // what was observed before stays as it was
		w.sandboxes[i] = &cri.PodSandboxStatus{Id: s.Id, Metadata: s.Metadata, State: cri.PodSandboxState_SANDBOX_NOTREADY, Network: s.Network}
	}
}

func (w *world) remove(which func(*actual.ContainerStatus) bool) {
	w.containers = slices.DeleteFunc(slices.Clone(w.containers), which)
}

func (w *world) newest(name string) *actual.ContainerStatus { return w.observed().Container(name) }

// exit ends a container, if it runs.
func (w *world) exit(name string, code int32) {
	if c := w.newest(name); c != nil && c.State == actual.StateRunning {
		c.State, c.ExitCode = actual.StateExited, code
	}
}

// initsEnd lets init containers do their work.
func (w *world) initsEnd() {
	for i := range w.pod.Spec.InitContainers {
		if c := &w.pod.Spec.InitContainers[i]; !pods.IsSidecar(c) {
			w.exit(c.Name, 0)
		}
	}
}

// A fault is something that may happen to the world between two steps of the agent.
type fault struct {
	name string
	do   func(*world)
}

// faultsOf are all faults: those that an agent with a record of the pod must stand,
// and, where it forgets, those that leave the containers for it to find.
func faultsOf(pod *v1.Pod, forgets bool) []fault {
	faults := []fault{
		{"sandbox dies", (*world).sandboxesDie},
		{"node dies", (*world).killAll},
		{"agent killed after sandbox", func(w *world) { w.dies = "sandbox" }},
		{"agent killed after create", func(w *world) { w.dies = "create" }},
		{"agent killed", func(w *world) { w.over = false }},
	}
	if forgets {
		faults = append(faults, fault{"agent killed, forgets", func(w *world) { w.over, w.memory = false, v1.PodStatus{} }})
	} else {
		faults = append(faults,
			fault{"sandbox removed", func(w *world) { w.sandboxes = nil }},
			fault{"all removed", func(w *world) { w.sandboxes, w.containers, w.struck = nil, nil, true }},
			fault{"containers removed", func(w *world) { w.containers, w.struck = nil, true }})
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		name := c.Name
		alone := func(do func(*world)) func(*world) {
			return func(w *world) {
				do(w)
				w.struck = w.struck || name == "side"
			}
		}
		faults = append(faults,
			fault{name + " exits 0", alone(func(w *world) { w.exit(name, 0) })},
			fault{name + " exits 1", alone(func(w *world) { w.exit(name, 1) })},
			fault{name + " unknown", alone(func(w *world) {
				if c := w.newest(name); c != nil && c.State == actual.StateRunning {
					c.State = actual.StateUnknown
				}
			})})
		if !forgets {
			faults = append(faults, fault{name + " removed", alone(func(w *world) {
				w.remove(func(c *actual.ContainerStatus) bool { return c.Name == name })
			})})
		}
	}
	return faults
}

// explorer visits every world that can be reached with a few faults.
type explorer struct {
	faults []fault
	once   string // the containers that may run once only
	seen   map[string]bool
	ends   int
}

// explore returns what is wrong in a world that can be reached from w.
func (e *explorer) explore(w *world, left int, trail string) (wrong string) {
	before := w.String()
	if key := fmt.Sprint(left, before); e.seen[key] {
		return ""
	} else {
		e.seen[key] = true
	}
	for _, name := range strings.Fields(e.once) {
		if w.starts[name] > 1 {
			return fmt.Sprintf("%s: %s ran twice", trail, name)
		}
	}
	for _, f := range e.faults {
		if left == 0 {
			break
		}
		next := w.clone()
		if f.do(next); next.String() == before {
			continue
		}
		if wrong := e.explore(next, left-1, trail+", "+f.name); wrong != "" {
			return wrong
		}
	}
	for _, step := range []struct {
		name string
		do   func(*world)
	}{{"sync", (*world).sync}, {"inits end", (*world).initsEnd}} {
		next := w.clone()
		if step.do(next); next.String() != before {
			return e.explore(next, left, trail+", "+step.name)
		}
	}
	// Nothing moves any more but the containers.
	e.ends++
	if wrong := judge(w, e.once); wrong != "" {
		return trail + ": " + wrong
	}
	return ""
}

// shape is a pod with init containers, a sidecar and two regular containers.
func shape(policy v1.RestartPolicy, own map[string]v1.ContainerRestartPolicy) *v1.Pod {
	own["side"] = v1.ContainerRestartPolicyAlways
	list := func(names ...string) (cs []v1.Container) {
		for _, name := range names {
			c := v1.Container{Name: name, Image: "x"}
			if p, ok := own[name]; ok {
				c.RestartPolicy = &p
			}
			cs = append(cs, c)
		}
		return cs
	}
	p := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: policy, InitContainers: list("i1", "side", "i2"), Containers: list("c1", "c2")}}
	p.UID, p.Name, p.Namespace = "u", "p", "n"
	return p
}

// TestWhatMayNotRunAgainNeverDoes tries every two faults at every two moments. The runtime
// counts that no container runs twice; each pod must also end, and in the right way, or an
// agent that does nothing would pass.
func TestWhatMayNotRunAgainNeverDoes(t *testing.T) {
	t.Parallel()
	type own = map[string]v1.ContainerRestartPolicy
	const never, always = v1.ContainerRestartPolicyNever, v1.ContainerRestartPolicyAlways
	for name, tc := range map[string]struct {
		policy v1.RestartPolicy
		own    own
		once   string // the containers that may run once only, whatever happens
	}{
		"Never":                 {v1.RestartPolicyNever, own{}, "i1 i2 c1 c2"},
		"Never, c2 Always":      {v1.RestartPolicyNever, own{"c2": always}, "i1 i2 c1"},
		"Never, i1 OnFailure":   {v1.RestartPolicyNever, own{"i1": v1.ContainerRestartPolicyOnFailure}, "i2 c1 c2"},
		"OnFailure":             {v1.RestartPolicyOnFailure, own{}, ""},
		"OnFailure, c1 Never":   {v1.RestartPolicyOnFailure, own{"c1": never}, "c1"},
		"Always, c1 Never":      {v1.RestartPolicyAlways, own{"c1": never}, "c1"},
		"Always, i1 Never":      {v1.RestartPolicyAlways, own{"i1": never}, "i1"},
		"Always, all but side":  {v1.RestartPolicyAlways, own{"i1": never, "i2": never, "c1": never, "c2": never}, "i1 i2 c1 c2"},
		"Always, nothing Never": {v1.RestartPolicyAlways, own{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := shape(tc.policy, tc.own)
			for _, forgets := range []bool{false, true} {
				e := &explorer{faults: faultsOf(pod, forgets), once: tc.once, seen: map[string]bool{}}
				if wrong := e.explore(&world{pod: pod, starts: map[string]int{}}, 2, "a new pod"); wrong != "" {
					t.Error(wrong)
				} else if len(e.seen) < 1000 || e.ends < 50 {
					t.Errorf("only %d worlds seen, %d of them at rest", len(e.seen), e.ends)
				}
			}
		})
	}
}

// judge tells what is wrong with a world at rest.
func judge(w *world, once string) string {
	if w.pod.Spec.RestartPolicy == v1.RestartPolicyNever && w.starts["side"] > 1 && !w.struck {
		return "the sidecar ran twice, which did not die by itself"
	}
	if once == "" && w.pod.Spec.RestartPolicy == v1.RestartPolicyAlways {
		for _, name := range []string{"side", "c1", "c2"} {
			if c := w.newest(name); w.over || c == nil || c.State != actual.StateRunning {
				return fmt.Sprintf("%s does not run, the pod is %s", name, w.memory.Phase)
			}
		}
	}
	// If everything that runs ended well, the pod would.
	w = w.clone()
	for _, c := range w.pod.Spec.Containers {
		w.exit(c.Name, 0)
	}
	w.sync()
	w.sync()
	for _, c := range w.pod.Spec.Containers {
		if p := c.RestartPolicy; p != nil && *p == v1.ContainerRestartPolicyAlways || p == nil && w.pod.Spec.RestartPolicy == v1.RestartPolicyAlways {
			return "" // it never ends
		}
	}
	if !w.over {
		return fmt.Sprintf("the pod comes to no end, it is %s", w.memory.Phase)
	}
	for _, name := range []string{"i1", "i2", "c1", "c2"} {
		c := w.newest(name)
		if well := w.starts[name] > 0 && (c == nil || c.State == actual.StateExited && c.ExitCode == 0); w.memory.Phase == v1.PodSucceeded && !well {
			return fmt.Sprintf("the pod has succeeded, but %s has not", name)
		}
	}
	return ""
}
