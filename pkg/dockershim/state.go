package dockershim

import (
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/checkpoint"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// state is what the server knows of sandboxes, containers and images. Docker is the only
// database: all of it but the checkpoints is lost with the process.
type state struct {
	containers  *docker.Containers
	images      *docker.Images
	checkpoints *checkpoint.Store // on disk: what Docker forgets of a sandbox
	made        memory
	names       reservations
}

// memory holds what this process has made itself, about which Docker need not be asked.
// Docker knows the rest.
type memory struct {
	mu         sync.Mutex
	sandboxes  map[string]docker.Identity
	containers map[string]string // log path, absolute
}

func (m *memory) sandboxMade(id string, of docker.Identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sandboxes == nil {
		m.sandboxes = map[string]docker.Identity{}
	}
	m.sandboxes[id] = of
}

func (m *memory) sandbox(id string) (docker.Identity, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of, ok := m.sandboxes[id]
	return of, ok
}

func (m *memory) containerMade(id, logPath string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.containers == nil {
		m.containers = map[string]string{}
	}
	m.containers[id] = logPath
}

func (m *memory) logPath(id string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path, ok := m.containers[id]
	return path, ok
}

// forget is called when a sandbox or container has ended or does not exist any more.
func (m *memory) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sandboxes, id)
	delete(m.containers, id)
}

// reservations are the names of sandboxes and containers that are being created: a second
// call for the same one is refused until the first has ended.
type reservations struct {
	mu    sync.Mutex
	names map[string]bool
}

func (r *reservations) take(name string) (release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] {
		return nil, grpccode.Refused(codes.AlreadyExists, "%s is being created by another call", name)
	}
	if r.names == nil {
		r.names = map[string]bool{}
	}
	r.names[name] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.names, name)
	}, nil
}
