package kuberuntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// ComputeActions is the name under which SyncPod's decisions are in the journal; ReplayActions makes them again.
const ComputeActions = "computeActions"

// decided is a decision of computeActions.
type decided struct {
	pod      *v1.Pod
	observed *actual.PodStatus
	answers  map[string]answer
	actions  actions
}

// answer is what was asked about a container, and the answers.
type answer struct {
	Failed  actual.FailedProbe `json:"failed,omitempty"`
	Started *bool              `json:"started,omitempty"`
	Resize  bool               `json:"resize,omitempty"`
	Restart bool               `json:"restart,omitempty"`
}

// recorded returns verdicts that give the same answers and note them.
func (v verdicts) recorded() (verdicts, map[string]answer) {
	answers := map[string]answer{}
	r := verdicts{}
	if v.failed != nil {
		r.failed = func(id actual.ContainerID) actual.FailedProbe {
			a := answers[id.ID]
			a.Failed = v.failed(id)
			answers[id.ID] = a
			return a.Failed
		}
	}
	if v.started != nil {
		r.started = func(id actual.ContainerID) bool {
			a, started := answers[id.ID], v.started(id)
			a.Started = &started
			answers[id.ID] = a
			return started
		}
	}
	if v.resize != nil {
		r.resize = func(c *v1.Container, s *actual.ContainerStatus) (*resizing, bool) {
			a := answers[s.ID.ID]
			to, restart := v.resize(c, s)
			a.Resize, a.Restart = to != nil, restart
			answers[s.ID.ID] = a
			return to, restart
		}
	}
	return r, answers
}

// of returns verdicts that give answers that were noted.
func of(answers map[string]answer) verdicts {
	return verdicts{
		failed: func(id actual.ContainerID) actual.FailedProbe { return answers[id.ID].Failed },
		started: func(id actual.ContainerID) bool {
			started := answers[id.ID].Started
			return started == nil || *started
		},
		resize: func(_ *v1.Container, s *actual.ContainerStatus) (*resizing, bool) {
			a := answers[s.ID.ID]
			if !a.Resize {
				return nil, a.Restart
			}
			return &resizing{status: s}, a.Restart
		},
	}
}

// Size implements journal.Decision.
func (d *decided) Size() int {
	n := 256
	for _, list := range [][]v1.Container{d.pod.Spec.InitContainers, d.pod.Spec.Containers} {
		for i := range list {
			n += 256 + 64*len(list[i].Env)
		}
	}
	return n + 256*len(d.observed.Containers) + 128*len(d.observed.Sandboxes)
}

// Idle implements journal.Decision.
func (d *decided) Idle() bool { return d.actions.nothing() }

// Output implements journal.Decision.
func (d *decided) Output() string { return d.actions.told() }

// told is all that is decided, in words.
func (a *actions) told() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	for _, s := range a.reset {
		add("remove %s %s", s.Name, short(s.ID.ID))
	}
	for _, s := range a.strays {
		add("stop stray %s %s", s.Name, short(s.ID.ID))
	}
	for _, k := range a.kill {
		grace := ""
		if k.grace != nil {
			grace = fmt.Sprintf(", grace period %d s", *k.grace)
		}
		add("kill %s %s (%s%s)", k.status.Name, short(k.status.ID.ID), k.message, grace)
	}
	if a.killPod {
		add("kill pod")
	}
	if a.createSandbox {
		add("make sandbox %d", a.attempt)
	}
	for _, r := range a.resize {
		add("resize %s", r.status.Name)
	}
	for _, c := range a.ephemeral {
		add("start ephemeral %s for %q", c.Name, a.targets[c.Name])
	}
	for _, name := range names(a.init) {
		add("start init %s", name)
	}
	for _, name := range names(a.start) {
		add("start %s", name)
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func short(id string) string { return id[:min(12, len(id))] }

// seen is what was observed, as far as it is decided by.
type seen struct {
	Sandboxes  []seenSandbox   `json:"sandboxes,omitempty"`
	Containers []seenContainer `json:"containers,omitempty"`
}

type seenSandbox struct {
	ID          string  `json:"id"`
	Attempt     uint32  `json:"attempt,omitempty"`
	Ready       bool    `json:"ready,omitempty"`
	HostNetwork bool    `json:"hostNetwork,omitempty"`
	IP          *string `json:"ip,omitempty"` // nil: the runtime says nothing of the network
}

type seenContainer struct {
	ID         string       `json:"id"`
	Name       string       `json:"name"`
	Sandbox    string       `json:"sandbox,omitempty"`
	State      actual.State `json:"state"`
	ExitCode   int32        `json:"exitCode,omitempty"`
	Hash       uint64       `json:"hash,omitempty"`
	Restarts   int32        `json:"restarts,omitempty"`
	Reason     string       `json:"reason,omitempty"`
	CreatedAt  time.Time    `json:"createdAt,omitzero"`
	StartedAt  time.Time    `json:"startedAt,omitzero"`
	FinishedAt time.Time    `json:"finishedAt,omitzero"`
}

// input is what computeActions was given.
type input struct {
	Pod     *v1.Pod           `json:"pod"`
	Deleted bool              `json:"deleted,omitempty"` // it has a deletion timestamp
	Seen    seen              `json:"seen"`
	Answers map[string]answer `json:"answers,omitempty"`
}

// Input implements journal.Decision.
func (d *decided) Input(hide func(string) string) any {
	in := input{Pod: reduced(d.pod, hide), Deleted: d.pod.DeletionTimestamp != nil, Answers: d.answers}
	for _, s := range d.observed.Sandboxes {
		sandbox := seenSandbox{
			ID: s.Id, Attempt: s.GetMetadata().GetAttempt(), Ready: s.State == cri.PodSandboxState_SANDBOX_READY,
			HostNetwork: s.GetLinux().GetNamespaces().GetOptions().GetNetwork() == cri.NamespaceMode_NODE,
		}
		if s.GetNetwork() != nil {
			sandbox.IP = &s.Network.Ip
		}
		in.Seen.Sandboxes = append(in.Seen.Sandboxes, sandbox)
	}
	for _, c := range d.observed.Containers {
		in.Seen.Containers = append(in.Seen.Containers, seenContainer{
			ID: c.ID.ID, Name: c.Name, Sandbox: c.SandboxID, State: c.State, ExitCode: c.ExitCode, Hash: c.Hash, Restarts: c.RestartCount, Reason: c.Reason,
			CreatedAt: c.CreatedAt, StartedAt: c.StartedAt, FinishedAt: c.FinishedAt,
		})
	}
	return in
}

// reduced returns what a pod is decided by, and what else helps to understand it: of what may hold a secret only the hidden
// form, and of what is not known to be harmless nothing.
func reduced(pod *v1.Pod, hide func(string) string) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, DeletionTimestamp: pod.DeletionTimestamp, DeletionGracePeriodSeconds: pod.DeletionGracePeriodSeconds,
		},
		Spec: v1.PodSpec{
			RestartPolicy: pod.Spec.RestartPolicy, HostNetwork: pod.Spec.HostNetwork, HostPID: pod.Spec.HostPID, TerminationGracePeriodSeconds: pod.Spec.TerminationGracePeriodSeconds,
			InitContainers: reducedList(pod.Spec.InitContainers, hide), Containers: reducedList(pod.Spec.Containers, hide),
		},
		Status: v1.PodStatus{Phase: pod.Status.Phase, InitContainerStatuses: ends(pod.Status.InitContainerStatuses),
			ContainerStatuses: ends(pod.Status.ContainerStatuses), EphemeralContainerStatuses: ends(pod.Status.EphemeralContainerStatuses)},
	}
	for i := range pod.Spec.EphemeralContainers {
		e := &pod.Spec.EphemeralContainers[i]
		c := v1.Container(e.EphemeralContainerCommon)
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, v1.EphemeralContainer{
			EphemeralContainerCommon: v1.EphemeralContainerCommon(reducedContainer(&c, hide)), TargetContainerName: e.TargetContainerName,
		})
	}
	return p
}

func reducedList(list []v1.Container, hide func(string) string) (all []v1.Container) {
	for i := range list {
		all = append(all, reducedContainer(&list[i], hide))
	}
	return all
}

func reducedContainer(c *v1.Container, hide func(string) string) v1.Container {
	r := v1.Container{
		Name: c.Name, Image: c.Image, Ports: c.Ports, Resources: c.Resources, ResizePolicy: c.ResizePolicy, RestartPolicy: c.RestartPolicy, RestartPolicyRules: c.RestartPolicyRules,
		LivenessProbe: reducedProbe(c.LivenessProbe), ReadinessProbe: reducedProbe(c.ReadinessProbe), StartupProbe: reducedProbe(c.StartupProbe),
	}
	for _, s := range c.Command {
		r.Command = append(r.Command, hide(s))
	}
	for _, s := range c.Args {
		r.Args = append(r.Args, hide(s))
	}
	for _, e := range c.Env {
		r.Env = append(r.Env, v1.EnvVar{Name: e.Name, Value: hide(e.Value)})
	}
	return r
}

// reducedProbe leaves out what is probed.
func reducedProbe(p *v1.Probe) *v1.Probe {
	if p == nil {
		return nil
	}
	r := *p
	r.ProbeHandler = v1.ProbeHandler{}
	return &r
}

// ends returns the statuses without what containers wrote.
func ends(list []v1.ContainerStatus) (all []v1.ContainerStatus) {
	state := func(s v1.ContainerState) v1.ContainerState {
		r := v1.ContainerState{Running: s.Running}
		if s.Waiting != nil {
			r.Waiting = &v1.ContainerStateWaiting{Reason: s.Waiting.Reason}
		}
		if t := s.Terminated; t != nil {
			r.Terminated = &v1.ContainerStateTerminated{ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, StartedAt: t.StartedAt, FinishedAt: t.FinishedAt, ContainerID: t.ContainerID}
		}
		return r
	}
	for _, s := range list {
		all = append(all, v1.ContainerStatus{Name: s.Name, ContainerID: s.ContainerID, RestartCount: s.RestartCount, Ready: s.Ready, Started: s.Started, State: state(s.State), LastTerminationState: state(s.LastTerminationState)})
	}
	return all
}

// ReplayActions makes a decision of computeActions again from what its Input was, and returns what this binary decides.
func ReplayActions(text json.RawMessage) (output string, err error) {
	var in input
	if err := json.Unmarshal(text, &in); err != nil {
		return "", fmt.Errorf("read the input of %s: %w", ComputeActions, err)
	}
	if in.Pod == nil {
		return "", errors.New("the input of " + ComputeActions + " has no pod")
	}
	if in.Deleted && in.Pod.DeletionTimestamp == nil {
		in.Pod.DeletionTimestamp = &metav1.Time{}
	}
	observed := &actual.PodStatus{UID: in.Pod.UID, Name: in.Pod.Name, Namespace: in.Pod.Namespace}
	for _, s := range in.Seen.Sandboxes {
		sandbox := &cri.PodSandboxStatus{
			Id: s.ID, Metadata: &cri.PodSandboxMetadata{Attempt: s.Attempt}, State: cri.PodSandboxState_SANDBOX_NOTREADY,
			Linux: &cri.LinuxPodSandboxStatus{Namespaces: &cri.Namespace{Options: &cri.NamespaceOption{}}},
		}
		if s.Ready {
			sandbox.State = cri.PodSandboxState_SANDBOX_READY
		}
		if s.HostNetwork {
			sandbox.Linux.Namespaces.Options.Network = cri.NamespaceMode_NODE
		}
		if s.IP != nil {
			sandbox.Network = &cri.PodSandboxNetworkStatus{Ip: *s.IP}
		}
		observed.Sandboxes = append(observed.Sandboxes, sandbox)
	}
	for _, c := range in.Seen.Containers {
		observed.Containers = append(observed.Containers, &actual.ContainerStatus{
			ID: actual.ContainerID{ID: c.ID}, Name: c.Name, SandboxID: c.Sandbox, State: c.State, ExitCode: c.ExitCode, Hash: c.Hash, RestartCount: c.Restarts, Reason: c.Reason,
			CreatedAt: c.CreatedAt, StartedAt: c.StartedAt, FinishedAt: c.FinishedAt,
		})
	}
	a := computeActions(in.Pod, observed, of(in.Answers))
	return a.told(), nil
}
