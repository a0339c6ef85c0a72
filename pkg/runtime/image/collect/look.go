package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// look asks the runtime which images there are, and finds out who uses them.
func (p *pass) look(ctx context.Context) error {
	runtime := p.m.cfg.Runtime
	// In this order: what is pulled later is not in the list, and what a container is made
	// from later has been claimed.
	images, err := runtime.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	containers, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	used := users(images.Images, containers.Containers)
	wanted := normalizedSet(append(p.m.cfg.Wanted(), p.m.sandboxImages(ctx, images.Images)...))
	for _, c := range containers.Containers {
		p.users = append(p.users, c.Id)
	}
	p.m.note(images.Images, p.at, func(i *cri.Image, names []string) bool { return used[i.Id] || among(wanted, i.Id, names) })
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	for _, e := range p.m.images {
		p.images = append(p.images, e.Image)
	}
	return nil
}

// sandboxImages returns the names of the image that sandboxes are made from, where the runtime
// pins nothing, as containerd before 1.7: it may tell in its configuration.
func (m *Manager) sandboxImages(ctx context.Context, images []*cri.Image) []string {
	if slices.ContainsFunc(images, func(i *cri.Image) bool { return i.Pinned }) {
		return nil
	}
	names := []string{m.cfg.SandboxImage}
	if m.sandbox == nil {
		r, err := m.cfg.Runtime.Status(ctx, &cri.StatusRequest{Verbose: true})
		if err != nil {
			klog.V(2).InfoS("The runtime does not tell its sandbox image", "err", err)
			return names
		}
		var config struct{ SandboxImage string }
		_ = json.Unmarshal([]byte(r.Info["config"]), &config) // every runtime has its own
		m.sandbox = &config.SandboxImage
	}
	return append(names, *m.sandbox)
}

// note takes in which images there are, and forgets the others.
func (m *Manager) note(images []*cri.Image, at time.Time, inUse func(*cri.Image, []string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.images
	m.images = make(map[string]*entry, len(images))
	for _, i := range images {
		e := before[i.Id]
		if e == nil {
			e = &entry{Image: Image{ID: i.Id, Detected: at}}
		}
		m.images[i.Id] = e
		e.Size, e.Kept = i.Size, i.Pinned
		e.names = namesOf(i)
		if inUse(i, e.names) {
			e.Used, e.Kept = at, true
		}
	}
	// A claim may be ahead of the list.
	for id, e := range before {
		if m.images[id] == nil && e.Claimed.After(at) {
			m.images[id] = e
			e.Kept = true
		}
	}
	maps.DeleteFunc(m.gone, func(_ string, since time.Time) bool { return at.Sub(since) > period })
}

// users returns the IDs of the images that containers are made from.
func users(images []*cri.Image, containers []*cri.Container) map[string]bool {
	ids, named := map[string]string{}, map[string]string{}
	for _, i := range images {
		ids[bare(i.Id)] = i.Id
		for _, name := range namesOf(i) {
			named[name] = i.Id
		}
	}
	used := map[string]bool{}
	for _, c := range containers {
		// Some runtimes tell a container's image by ID, some by a name.
		for _, ref := range []string{c.ImageId, c.ImageRef, c.GetImage().GetImage()} {
			if id := cmp.Or(ids[bare(ref)], named[normalized(ref)]); id != "" {
				used[id] = true
				break
			}
		}
	}
	return used
}

// patience is for how long a container that can never be asked keeps all images from being removed. After that the disk
// comes first: what pods of this node mount is wanted by their specs.
const patience = 3 * period

// silence is since when a container has not answered, and when it was last asked in vain.
type silence struct{ since, last time.Time }

// after returns the silence of a container that does not answer now. One that was long not asked may have
// answered meanwhile.
func (s silence) after(now time.Time) silence {
	if now.Sub(s.last) > patience {
		s.since = now
	}
	s.last = now
	return s
}

// asking is how many containers are asked at a time: those that do not answer cost one timeout together.
const asking = 8

// mounted returns the images, without the digest's algorithm, that containers have mounted as
// volumes. Only inspections tell, so it is not asked before something is to be removed. All are asked, whoever does not answer:
// the patience with each begins at once.
func (m *Manager) mounted(ctx context.Context, containers []string) (map[string]bool, error) {
	maps.DeleteFunc(m.silent, func(id string, _ silence) bool { return !slices.Contains(containers, id) })
	answers := make([]*cri.ContainerStatusResponse, len(containers))
	failed := make([]error, len(containers))
	group, ask := errgroup.WithContext(ctx)
	group.SetLimit(asking)
	for i, id := range containers {
		group.Go(func() error {
			if err := ask.Err(); err != nil {
				return err
			}
			answers[i], failed[i] = m.cfg.Runtime.ContainerStatus(ask, &cri.ContainerStatusRequest{ContainerId: id})
			switch err := failed[i]; {
			case ctx.Err() != nil:
				return unasked(id, context.Cause(ctx))
			case status.Code(err) == codes.Unavailable: // which says nothing of the container
				return unasked(id, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	found := map[string]bool{}
	var first error
	for i, id := range containers {
		switch err := failed[i]; {
		case status.Code(err) == codes.NotFound:
			continue
		case err != nil:
			now := time.Now()
			m.silent[id] = m.silent[id].after(now)
			if now.Sub(m.silent[id].since) >= patience {
				klog.ErrorS(err, "A container cannot be asked which images it has mounted, removing unused images without its answer", "containerID", id)
			} else if first == nil {
				first = unasked(id, err)
			}
			continue
		}
		delete(m.silent, id)
		for _, mount := range answers[i].GetStatus().GetMounts() {
			if ref := mount.GetImage().GetImage(); ref != "" {
				found[bare(ref)] = true
			}
		}
	}
	if first != nil {
		return nil, first
	}
	return found, nil
}

func unasked(container string, err error) error {
	return fmt.Errorf("look which images container %s has mounted: %w", container, err)
}

// bare returns an ID without its algorithm: runtimes write it in one place and leave it out in
// another.
func bare(id string) string { return strings.TrimPrefix(id, "sha256:") }

// normalized returns a name with its registry, and with a tag or digest.
func normalized(name string) string {
	if named, err := reference.ParseDockerRef(name); err == nil {
		return named.String()
	}
	return name
}

func namesOf(i *cri.Image) []string {
	names := make([]string, 0, len(i.RepoTags)+len(i.RepoDigests))
	for _, name := range i.RepoTags {
		names = append(names, normalized(name))
	}
	for _, name := range i.RepoDigests {
		names = append(names, normalized(name))
	}
	return names
}

// normalizedSet holds names as they are, for IDs, and normalized.
func normalizedSet(names []string) map[string]bool {
	set := make(map[string]bool, 2*len(names))
	for _, name := range names {
		set[bare(name)] = true
		set[normalized(name)] = true
	}
	return set
}

func among(wanted map[string]bool, id string, names []string) bool {
	if wanted[bare(id)] {
		return true
	}
	for _, name := range names {
		if wanted[name] {
			return true
		}
	}
	return false
}
