package docker

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// Images remembers what containers need to know of their images. Its methods are safe for
// concurrent use.
type Images struct {
	engine *Engine

	mu    sync.Mutex
	asOf  time.Time
	known map[string]ImageFacts
}

// ImageFacts is what the dockershim reads of an image.
type ImageFacts struct {
	Ref    string // see DigestedRef
	Weight int    // what its words cost, in bytes; see labelWeight and volumeWeight
	Wrong  string // what of it no container can have, "" for nothing

	program int  // length of the first word that is run, unless a container says one
	entry   bool // that word is the entrypoint's: a container's arguments follow it
}

// imageAge is how long an answer counts. It changes when the image is pulled under another
// name; Forget covers the pulls that we make.
const imageAge = time.Minute

// NewImages returns a memory of the engine's images, empty at first.
func NewImages(engine *Engine) *Images { return &Images{engine: engine} }

// Ref returns the image's digest, or its ID when it has none or Docker cannot say.
func (i *Images) Ref(ctx context.Context, id string) string {
	facts, err := i.Facts(ctx, id)
	if err != nil {
		return id
	}
	return facts.Ref
}

// Facts asks Docker about an image at most once in a while. An image that does not exist
// has no facts but its ID, and is no error.
func (i *Images) Facts(ctx context.Context, id string) (ImageFacts, error) {
	i.mu.Lock()
	if i.known == nil || time.Since(i.asOf) > imageAge {
		i.known, i.asOf = map[string]ImageFacts{}, time.Now()
	}
	known := i.known
	facts, ok := known[id]
	i.mu.Unlock()
	if ok {
		return facts, nil
	}
	facts.Ref = id
	r, err := i.engine.ImageInspect(ctx, id)
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

// Forget is called when images have been pulled or removed.
func (i *Images) Forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.known = nil
}

// LabelWeight is what each label of a container costs beside its length, in bytes: Docker
// repeats labels in every list, where many short ones are dearer to read than one long one.
const LabelWeight = 1 << 10

const (
	// volumeWeight is what each VOLUME of an image costs: a directory and a mount in each
	// of its containers.
	volumeWeight = 4 << 10
	// imageLabelTimes is how often the length of an image's label counts: Docker repeats
	// the label for each container of the image.
	imageLabelTimes = 4
)

// Weigh returns what labels cost, in bytes, with the length of each counted that many times.
func Weigh(labels map[string]string, times int) int {
	weight := LabelWeight * len(labels)
	for key, value := range labels {
		weight += times * (len(key) + len(value))
	}
	return weight
}

func factsOf(r image.InspectResponse) ImageFacts {
	facts := ImageFacts{Ref: DigestedRef(r.ID, r.RepoDigests)}
	c := r.Config
	if c == nil {
		return facts
	}
	facts.Weight = len(marshal(c)) + volumeWeight*len(c.Volumes) + Weigh(c.Labels, imageLabelTimes-1) // the text has each once
	if facts.entry = len(c.Entrypoint) > 0 && !blank(c.Entrypoint); facts.entry {
		facts.program = len(c.Entrypoint[0])
	} else if len(c.Cmd) > 0 {
		facts.program = len(c.Cmd[0])
	}
	switch {
	case len(c.WorkingDir) > bounds.MaxPath:
		facts.Wrong = "a working directory longer than a path"
	case slices.ContainsFunc(slices.Concat(c.Env, c.Entrypoint, c.Cmd), func(s string) bool { return strings.ContainsRune(s, 0) }):
		facts.Wrong = "a NUL in its environment or command"
	}
	return facts
}

// blank reports whether Docker takes these words for no entrypoint, not even the image's.
func blank(words []string) bool { return len(words) == 1 && words[0] == "" }

// Program returns the length of the first word that a container runs, given the command
// and arguments it is created with, by Docker's rules.
func (f ImageFacts) Program(command, args []string) int {
	switch {
	case len(command) > 0 && !blank(command):
		return len(command[0])
	case len(args) > 0 && (len(command) > 0 || !f.entry):
		return len(args[0])
	}
	return f.program
}
