package imageservice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// oneImage is Docker with one image, as it decides about its removal.
type oneImage struct {
	Docker
	tags, digests []string
	child         bool // another image is built on it
	// created is a container that somebody creates after that many removals were asked for.
	created, asked int
	gone           bool
	forced         bool
	// fails is the removal that fails, after so many others, and halfway: what it is of has lost its name.
	fails  int
	failed func() // called then
	newer  string // the tag of a newer image
}

const oneID = "sha256:" + someID

func (o *oneImage) ImageInspect(ctx context.Context, ref string, _ ...client.ImageInspectOption) (image.InspectResponse, error) {
	switch {
	case ctx.Err() != nil:
		return image.InspectResponse{}, ctx.Err()
	case ref == o.newer:
		return image.InspectResponse{ID: "sha256:newer", RepoTags: []string{o.newer}}, nil
	case o.gone || ref != oneID && !slices.Contains(o.tags, ref):
		return image.InspectResponse{}, errdefs.ErrNotFound
	}
	return image.InspectResponse{ID: oneID, RepoTags: slices.Clone(o.tags), RepoDigests: slices.Clone(o.digests)}, nil
}

func (o *oneImage) ContainerList(context.Context, container.ListOptions) ([]container.Summary, error) {
	if o.created > 0 && o.asked >= o.created {
		return []container.Summary{{ID: "c", ImageID: oneID, Names: []string{"/somebodys"}, State: "created"}}, nil
	}
	return nil, nil
}

func (o *oneImage) ImageTag(ctx context.Context, _, name string) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case o.gone:
		return errdefs.ErrNotFound
	case name == o.newer:
		o.newer = ""
	}
	o.tags = append(o.tags, name)
	return nil
}

func (o *oneImage) ImageRemove(_ context.Context, ref string, options image.RemoveOptions) ([]image.DeleteResponse, error) {
	o.asked++
	o.forced = o.forced || options.Force
	conflict := func(why string) error {
		return fmt.Errorf("conflict: unable to delete %s - %s: %w", ref, why, errdefs.ErrConflict)
	}
	used := o.created > 0 && o.asked >= o.created
	same := func(name string) bool { return name == ref || ref == oneID }
	if o.fails > 0 && o.asked == o.fails {
		o.tags = slices.DeleteFunc(o.tags, same)
		if o.failed != nil {
			o.failed()
		}
		return nil, errors.New("unlinkat: read-only file system")
	}
	if ref != oneID {
		if used && len(o.tags)+len(o.digests) == 1 {
			return nil, conflict("container c is using its referenced image")
		}
		o.tags, o.digests = slices.DeleteFunc(o.tags, same), slices.DeleteFunc(o.digests, same)
		if len(o.tags)+len(o.digests) > 0 {
			return nil, nil
		}
	}
	repos := map[string]bool{}
	for _, name := range append(slices.Clone(o.tags), o.digests...) {
		name, _, _ = strings.Cut(name, "@")
		name, _, _ = strings.Cut(name, ":")
		repos[name] = true
	}
	switch {
	case o.child:
		return nil, conflict("image has dependent child images")
	case len(o.tags) > 1 || len(repos) > 1:
		return nil, conflict("image is referenced in multiple repositories")
	case used:
		return nil, conflict("image is being used by stopped container c")
	}
	o.tags, o.digests, o.gone = nil, nil, true
	return nil, nil
}

func TestRemovalIsNeverForced(t *testing.T) {
	digest := "@sha256:" + someID
	for name, tt := range map[string]struct {
		docker oneImage
		code   codes.Code
		tags   []string // that are left
	}{
		"without a name":               {oneImage{}, codes.OK, nil},
		"one name":                     {oneImage{tags: []string{"a:1"}, digests: []string{"a" + digest}}, codes.OK, nil},
		"two tags":                     {oneImage{tags: []string{"a:1", "a:2"}}, codes.OK, nil},
		"two repositories":             {oneImage{tags: []string{"a:1", "b:1"}, digests: []string{"a" + digest, "b" + digest}}, codes.OK, nil},
		"two digests":                  {oneImage{digests: []string{"a" + digest, "b" + digest}}, codes.OK, nil},
		"base of others":               {oneImage{tags: []string{"a:1", "b:1"}, child: true}, codes.OK, nil},
		"a container comes":            {oneImage{tags: []string{"a:1"}, created: 1}, codes.FailedPrecondition, []string{"a:1"}},
		"a container comes in between": {oneImage{tags: []string{"a:1", "b:1", "c:1"}, created: 3}, codes.FailedPrecondition, []string{"a:1", "b:1", "c:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			docker := tt.docker
			s, err := New(Config{Docker: &docker})
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: oneID}})
			slices.Sort(docker.tags)
			if status.Code(err) != tt.code || !slices.Equal(docker.tags, tt.tags) || docker.forced {
				t.Errorf("%v, tags %q are left, forced: %v; want %v, %q", err, docker.tags, docker.forced, tt.code, tt.tags)
			}
			if want := tt.code == codes.OK && !tt.docker.child; docker.gone != want {
				t.Errorf("removed: %v, want %v", docker.gone, want)
			}
		})
	}
}

// TestARemovalThatFailsLeavesTheTags: a pod that never pulls has no image without them. What a pull has
// given to a newer image meanwhile stays there.
func TestARemovalThatFailsLeavesTheTags(t *testing.T) {
	tags := []string{"a:1", "b:1", "c:1"}
	for name, tt := range map[string]struct {
		fails int
		tags  []string
		child bool
		newer string // the tag that a pull moves
		ends  bool   // the caller waits no longer
	}{
		"at once":                     {fails: 1, tags: []string{"a:1"}},
		"a name":                      {fails: 2, tags: tags},
		"the image, after two names":  {fails: 5, tags: tags},
		"the base of others":          {fails: 3, tags: tags, child: true},
		"a newer image has the first": {fails: 4, tags: tags, newer: "a:1"},
		"the caller has gone":         {fails: 4, tags: tags, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				docker := oneImage{tags: slices.Clone(tt.tags), child: tt.child, fails: tt.fails}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				docker.failed = func() {
					docker.newer = tt.newer
					if tt.ends {
						cancel()
					}
				}
				s, err := New(Config{Docker: &docker})
				if err != nil {
					t.Fatal(err)
				}
				_, err = s.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: oneID}})
				slices.Sort(docker.tags)
				want := slices.DeleteFunc(slices.Clone(tt.tags), func(tag string) bool { return tag == tt.newer })
				if status.Code(err) != codes.Internal || !slices.Equal(docker.tags, want) || docker.newer != tt.newer || docker.asked < tt.fails {
					t.Errorf("%v, tags %q are left, %q is a newer image's, after %d removals; want %q", err, docker.tags, docker.newer, docker.asked, want)
				}
			})
		})
	}
}
