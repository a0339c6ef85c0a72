package ui

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Pod is what is wanted of a pod beside what is seen of it. It has only fields that are named here: values of environments,
// commands and annotations are not among them, since they may be secret.
type Pod struct {
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Static    bool   `json:"static,omitempty"`
	Leaving   bool   `json:"leaving,omitempty"`
	Wanted    Wanted `json:"wanted"`
	Seen      Seen   `json:"seen"`
}

// Wanted is of a pod's spec.
type Wanted struct {
	RestartPolicy string       `json:"restartPolicy,omitempty"`
	HostNetwork   bool         `json:"hostNetwork,omitempty"`
	GraceSeconds  *int64       `json:"graceSeconds,omitempty"`
	Volumes       []string     `json:"volumes,omitempty"`
	Containers    []WantedUnit `json:"containers,omitempty"`
}

// WantedUnit is a container of a spec.
type WantedUnit struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind,omitempty"` // init, sidecar, debug; "": a container
	Image     string   `json:"image"`
	Env       []string `json:"env,omitempty"`    // names only
	Probes    []string `json:"probes,omitempty"` // startup, liveness, readiness
	Resources []string `json:"resources,omitempty"`
}

// Seen is of a pod's status.
type Seen struct {
	Phase      string     `json:"phase"`
	Reason     string     `json:"reason,omitempty"`
	Message    string     `json:"message,omitempty"`
	IP         string     `json:"ip,omitempty"`
	Conditions []string   `json:"conditions,omitempty"` // those that are true
	Containers []SeenUnit `json:"containers,omitempty"`
}

// SeenUnit is a container of a status.
type SeenUnit struct {
	Name     string     `json:"name"`
	Image    string     `json:"image,omitempty"`
	State    string     `json:"state"` // waiting, running, terminated
	Reason   string     `json:"reason,omitempty"`
	Message  string     `json:"message,omitempty"` // why it waits; never what the container has written
	ExitCode *int32     `json:"exitCode,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Ready    bool       `json:"ready,omitempty"`
	Restarts int32      `json:"restarts,omitempty"`
}

// Bounds of what one answer holds: a browser has to show it.
const (
	maxPods    = 1000
	maxEntries = 50 // of each list of a pod
	maxText    = 300
	maxAnswer  = 8 << 20 // bytes, of all pods together
)

// answer is what the page gets: the first pods that there is room for.
type answer struct {
	Pods []json.RawMessage `json:"pods"` // each a Pod
	Cut  bool              `json:"cut,omitempty"`
}

func answerWith(all []v1.Pod) (answer, error) {
	a := answer{Pods: []json.RawMessage{}}
	size := 0
	for i := range all {
		text, err := json.Marshal(show(&all[i]))
		if err != nil {
			return answer{}, fmt.Errorf("encode pod %s/%s: %w", all[i].Namespace, all[i].Name, err)
		}
		if size += len(text); size > maxAnswer || i == maxPods {
			a.Cut = true
			break
		}
		a.Pods = append(a.Pods, text)
	}
	return a, nil
}

func show(p *v1.Pod) Pod {
	return Pod{
		UID: cut(string(p.UID)), Namespace: cut(p.Namespace), Name: cut(p.Name), Static: pods.IsStatic(p), Leaving: p.DeletionTimestamp != nil,
		Wanted: wanted(&p.Spec), Seen: seen(&p.Status),
	}
}

func wanted(spec *v1.PodSpec) Wanted {
	w := Wanted{RestartPolicy: cut(string(spec.RestartPolicy)), HostNetwork: spec.HostNetwork, GraceSeconds: spec.TerminationGracePeriodSeconds}
	for _, v := range spec.Volumes[:min(len(spec.Volumes), maxEntries)] {
		w.Volumes = append(w.Volumes, cut(v.Name))
	}
	for _, c := range spec.InitContainers {
		kind := "init"
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			kind = "sidecar"
		}
		w.add(kind, &c)
	}
	for i := range spec.Containers {
		w.add("", &spec.Containers[i])
	}
	for _, e := range spec.EphemeralContainers {
		c := v1.Container(e.EphemeralContainerCommon)
		w.add("debug", &c)
	}
	return w
}

func (w *Wanted) add(kind string, c *v1.Container) {
	if len(w.Containers) == maxEntries {
		return
	}
	u := WantedUnit{Name: cut(c.Name), Kind: kind, Image: cut(c.Image)}
	for _, e := range c.Env[:min(len(c.Env), maxEntries)] {
		u.Env = append(u.Env, cut(e.Name))
	}
	for _, p := range []struct {
		name  string
		probe *v1.Probe
	}{{"startup", c.StartupProbe}, {"liveness", c.LivenessProbe}, {"readiness", c.ReadinessProbe}} {
		if p.probe != nil {
			u.Probes = append(u.Probes, p.name)
		}
	}
	u.Resources = append(amounts("request", c.Resources.Requests), amounts("limit", c.Resources.Limits)...)
	w.Containers = append(w.Containers, u)
}

func amounts(what string, of v1.ResourceList) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(of))[:min(len(of), maxEntries)] {
		amount := of[name]
		all = append(all, cut(what+" "+string(name)+" "+amount.String()))
	}
	return all
}

func seen(status *v1.PodStatus) Seen {
	s := Seen{Phase: cut(string(status.Phase)), Reason: cut(status.Reason), Message: cut(status.Message), IP: cut(status.PodIP)}
	for _, c := range status.Conditions[:min(len(status.Conditions), maxEntries)] {
		if c.Status == v1.ConditionTrue {
			s.Conditions = append(s.Conditions, cut(string(c.Type)))
		}
	}
	for _, c := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses) {
		if len(s.Containers) == maxEntries {
			break
		}
		s.Containers = append(s.Containers, seenUnit(&c))
	}
	return s
}

func seenUnit(c *v1.ContainerStatus) SeenUnit {
	u := SeenUnit{Name: cut(c.Name), Image: cut(c.Image), State: "waiting", Ready: c.Ready, Restarts: c.RestartCount}
	switch state := c.State; {
	case state.Running != nil:
		u.State, u.Since = "running", &state.Running.StartedAt.Time
	case state.Terminated != nil:
		u.State, u.Reason = "terminated", cut(state.Terminated.Reason)
		u.ExitCode, u.Since = &state.Terminated.ExitCode, &state.Terminated.FinishedAt.Time
	case state.Waiting != nil:
		u.Reason, u.Message = cut(state.Waiting.Reason), cut(state.Waiting.Message)
	}
	return u
}

func cut(text string) string { return bounds.Cut(text, maxText) }
