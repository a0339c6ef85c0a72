package docker

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
)

// summary is the part of an entry of Docker's list that we read.
type summary struct {
	ID         string `json:"Id"`
	Names      []string
	Image      string
	ImageID    string
	Created    int64
	Labels     map[string]string
	State      string
	HostConfig struct{ NetworkMode string }
}

// State is the state of a container in CRI's terms.
type State int

const (
	StateUnknown State = iota
	StateCreated
	StateRunning
	StateExited
)

// Item is one of our containers as listed. It is shared and must not be changed.
type Item struct {
	ID          string
	IsSandbox   bool
	State       State
	Identity    Identity
	CreatedAt   int64 // ns since the epoch
	Labels      map[string]string
	Annotations map[string]string

	// Set for a container:
	SandboxID   string
	Image       string // as the client named it
	DockerImage string // as Docker's list names it
	ImageID     string
	Volumes     []ImageVolume
	// Set for a sandbox:
	NetworkMode string
	Handler     string
}

// newItem reads an entry of Docker's list. It returns false for a container that we did not
// make, whatever labels its image gave it.
func newItem(s *summary) (Item, bool) {
	labels := trusted(s.Labels)
	name := ""
	if len(s.Names) > 0 {
		name = s.Names[0]
	}
	id, ok := IdentityOf(name, labels)
	if !ok || labels[LabelStateDir] == "" {
		return Item{}, false
	}
	it := Item{
		ID: s.ID, IsSandbox: labels[LabelType] == TypeSandbox, State: listedState(s.State), Identity: id,
		CreatedAt: CreatedAt(labels, time.Unix(s.Created, 0)), NetworkMode: s.HostConfig.NetworkMode,
		SandboxID: labels[LabelSandboxID], Image: labels[LabelImage], DockerImage: s.Image, ImageID: s.ImageID, Handler: labels[LabelHandler],
		Volumes: ImageVolumesOf(labels),
	}
	it.Labels, it.Annotations = SplitLabels(labels)
	return it, true
}

// CreatedAt returns when a container was created, in nanoseconds since the epoch: by our label
// where it has one, else by Docker's time, which in lists is in whole seconds.
func CreatedAt(labels map[string]string, docker time.Time) int64 {
	if ns, err := strconv.ParseInt(labels[LabelCreated], 10, 64); err == nil {
		return ns
	}
	return docker.UnixNano()
}

// StateOf returns the state of an inspected container.
func StateOf(s *container.State) State {
	if s == nil {
		return StateUnknown
	}
	return listedState(string(s.Status))
}

func listedState(s string) State {
	switch s {
	case "created":
		return StateCreated
	case "running", "paused", "restarting":
		return StateRunning
	case "exited", "dead", "removing":
		return StateExited
	}
	return StateUnknown
}

// Matches reports whether an ID and labels select this container: the ID by a prefix, as
// in Docker and containerd.
func (it *Item) Matches(id string, labels map[string]string) bool {
	if !strings.HasPrefix(it.ID, id) {
		return false
	}
	for k, v := range labels {
		if got, ok := it.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// ItemOf makes an item of an inspected container, which must be ours. State and image are
// missing.
func ItemOf(r *container.InspectResponse) Item {
	it, _ := newItem(&summary{ID: r.ID, Names: []string{r.Name}, Labels: r.Config.Labels})
	return it
}
