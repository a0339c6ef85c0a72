package dockershim

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

// state is a container's, as CRI sees it.
type state int

const (
	stateUnknown state = iota
	stateCreated
	stateRunning
	stateExited
)

// item is one of our containers as listed. It is shared and only read.
type item struct {
	id          string
	sandbox     bool
	state       state
	identity    identity
	createdAt   int64 // ns
	labels      map[string]string
	annotations map[string]string

	// Of a container:
	sandboxID   string
	image       string // as the client named it
	dockerImage string // as Docker's list names it
	imageID     string
	volumes     []imageVolume
	// Of a sandbox:
	networkMode string
	handler     string
}

// newItem reads what Docker lists; false where we have not made it, whatever the
// labels that its image may have given it say.
func newItem(s *summary) (item, bool) {
	labels := trusted(s.Labels)
	name := ""
	if len(s.Names) > 0 {
		name = s.Names[0]
	}
	id, ok := identityOf(name, labels)
	if !ok || labels[labelStateDir] == "" {
		return item{}, false
	}
	it := item{
		id: s.ID, sandbox: labels[labelType] == typeSandbox, state: listedState(s.State), identity: id,
		createdAt: createdAt(labels, time.Unix(s.Created, 0)), networkMode: s.HostConfig.NetworkMode,
		sandboxID: labels[labelSandboxID], image: labels[labelImage], dockerImage: s.Image, imageID: s.ImageID, handler: labels[labelHandler],
		volumes: volumesOf(labels),
	}
	it.labels, it.annotations = criLabels(labels)
	return it, true
}

// createdAt prefers the nanoseconds of our label to Docker's seconds.
func createdAt(labels map[string]string, docker time.Time) int64 {
	if ns, err := strconv.ParseInt(labels[labelCreated], 10, 64); err == nil {
		return ns
	}
	return docker.UnixNano()
}

// stateOf is the state of an inspected container.
func stateOf(s *container.State) state {
	if s == nil {
		return stateUnknown
	}
	return listedState(string(s.Status))
}

func listedState(s string) state {
	switch s {
	case "created":
		return stateCreated
	case "running", "paused", "restarting":
		return stateRunning
	case "exited", "dead", "removing":
		return stateExited
	}
	return stateUnknown
}

// matches reports whether an ID and labels select this container: the ID by a prefix, as
// in Docker and containerd.
func (it *item) matches(id string, labels map[string]string) bool {
	if !strings.HasPrefix(it.id, id) {
		return false
	}
	for k, v := range labels {
		if got, ok := it.labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// itemOf is the item of an inspected container, which must be ours.
func itemOf(r *container.InspectResponse) item {
	it, _ := newItem(&summary{ID: r.ID, Names: []string{r.Name}, Labels: r.Config.Labels})
	return it
}
