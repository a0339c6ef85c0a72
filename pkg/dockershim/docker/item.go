package docker

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
)

// summary is what is read of a container in Docker's list.
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

// State is a container's, as CRI sees it.
type State int

const (
	StateUnknown State = iota
	StateCreated
	StateRunning
	StateExited
)

// Item is one of our containers as listed. It is shared and only read.
type Item struct {
	ID          string
	IsSandbox   bool
	State       State
	Identity    Identity
	CreatedAt   int64 // ns
	Labels      map[string]string
	Annotations map[string]string

	// Of a container:
	SandboxID   string
	Image       string // as the client named it
	DockerImage string // as Docker's list names it
	ImageID     string
	Volumes     []ImageVolume
	// Of a sandbox:
	NetworkMode string
	Handler     string
}

// newItem reads what Docker lists; false where we have not made it, whatever the
// labels that its image may have given it say.
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

// CreatedAt prefers the nanoseconds of our label to Docker's seconds.
func CreatedAt(labels map[string]string, docker time.Time) int64 {
	if ns, err := strconv.ParseInt(labels[LabelCreated], 10, 64); err == nil {
		return ns
	}
	return docker.UnixNano()
}

// StateOf is the state of an inspected container.
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

// ItemOf is the item of an inspected container, which must be ours.
func ItemOf(r *container.InspectResponse) Item {
	it, _ := newItem(&summary{ID: r.ID, Names: []string{r.Name}, Labels: r.Config.Labels})
	return it
}
