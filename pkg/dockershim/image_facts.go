package dockershim

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imageservice"
)

// imageRefs remembers what is asked of images with each container: by which digest a
// registry knows one, and how much it says of itself.
type imageRefs struct {
	mu    sync.Mutex
	asOf  time.Time
	known map[string]imageFacts
}

type imageFacts struct {
	ref     string // the image's digest, or its id when it has none
	text    int    // how long all is that it says of itself, in bytes; see volumeText
	wrong   string // what of it no container can have
	program int    // length of the first word that is run, unless a container says one
	entry   bool   // that is the entrypoint's: a container's arguments follow it
}

// imageRefAge is how long what is known counts: it changes when the image is pulled
// under another name, which is told at once where we pull it.
const imageRefAge = time.Minute

// of is the image's digest, or its id when it has none or cannot be asked for.
func (i *imageRefs) of(ctx context.Context, docker *engine, id string) string {
	facts, err := i.facts(ctx, docker, id)
	if err != nil {
		return id
	}
	return facts.ref
}

// facts asks Docker at most once in a while. What is not there is known by its id.
func (i *imageRefs) facts(ctx context.Context, docker *engine, id string) (imageFacts, error) {
	i.mu.Lock()
	if i.known == nil || time.Since(i.asOf) > imageRefAge {
		i.known, i.asOf = map[string]imageFacts{}, time.Now()
	}
	known := i.known
	facts, ok := known[id]
	i.mu.Unlock()
	if ok {
		return facts, nil
	}
	facts.ref = id
	r, err := docker.ImageInspect(ctx, id)
	switch {
	case err == nil:
		facts = factsOf(r)
	case !errdefs.IsNotFound(err):
		return facts, err // not remembered
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	known[id] = facts
	return facts, nil
}

// changed is told when images have been pulled or removed.
func (i *imageRefs) changed() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.known = nil
}

// maxImageText is how much an image may say of itself, in bytes. Docker sets no bound.
const maxImageText = 1 << 20

const (
	// volumeText is what each VOLUME of an image counts besides: a directory and a mount of
	// each of its containers.
	volumeText = 4 << 10
	// labelText is what each label of an image counts besides, and labelTimes how often its
	// length does: Docker repeats it for each container of the image in every list, where
	// many short ones are dearer to read than one long one.
	labelText, labelTimes = 1 << 10, 4
)

func factsOf(r image.InspectResponse) imageFacts {
	facts := imageFacts{ref: imageservice.DigestedRef(r.ID, r.RepoDigests)}
	c := r.Config
	if c == nil {
		return facts
	}
	facts.text = len(marshal(c)) + volumeText*len(c.Volumes)
	for key, value := range c.Labels {
		facts.text += labelText + (labelTimes-1)*(len(key)+len(value))
	}
	if facts.entry = len(c.Entrypoint) > 0 && !blank(c.Entrypoint); facts.entry {
		facts.program = len(c.Entrypoint[0])
	} else if len(c.Cmd) > 0 {
		facts.program = len(c.Cmd[0])
	}
	switch {
	case len(c.WorkingDir) > bounds.MaxPath:
		facts.wrong = "a working directory longer than a path"
	case slices.ContainsFunc(slices.Concat(c.Env, c.Entrypoint, c.Cmd), func(s string) bool { return strings.ContainsRune(s, 0) }):
		facts.wrong = "a NUL in its environment or command"
	}
	return facts
}

// blank tells whether words are what Docker takes for no entrypoint, not even the image's.
func blank(words []string) bool { return len(words) == 1 && words[0] == "" }

// programOf is the length of the first word of what a container runs, by Docker's rules.
func (f imageFacts) programOf(c *cri.ContainerConfig) int {
	switch {
	case len(c.Command) > 0 && !blank(c.Command):
		return len(c.Command[0])
	case len(c.Args) > 0 && (len(c.Command) > 0 || !f.entry):
		return len(c.Args[0])
	}
	return f.program
}

// checkImage refuses an image whose containers would make every list long, and a
// container whose program can be none.
func (s *Server) checkImage(ctx context.Context, c *cri.ContainerConfig) error {
	name := c.Image.Image
	facts, err := s.imageRefs.facts(ctx, s.docker, name)
	switch {
	case err != nil:
		return err
	case facts.text > maxImageText:
		return grpccode.Refused(codes.InvalidArgument, "config.image.image: the labels, environment, volumes and the like of %s are longer than 1 MiB", name)
	case facts.wrong != "":
		return grpccode.Refused(codes.InvalidArgument, "config.image.image: %s has %s", name, facts.wrong)
	case facts.programOf(c) > bounds.MaxPath:
		return grpccode.Refused(codes.InvalidArgument, "the program that config.args or image %s names is longer than a path: %d bytes", name, bounds.MaxPath)
	}
	return nil
}
