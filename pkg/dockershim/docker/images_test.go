package docker

import (
	"testing"

	"github.com/docker/docker/api/types/image"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestTheProgramOfAContainer(t *testing.T) {
	img := func(entrypoint, cmd []string) ImageFacts {
		return factsOf(image.InspectResponse{Config: &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Entrypoint: entrypoint, Cmd: cmd}}})
	}
	one, two, three := []string{"x"}, []string{"xx"}, []string{"xxx", "x"}
	for name, tc := range map[string]struct {
		img           ImageFacts
		command, args []string
		want          int
	}{
		"the image's entrypoint":            {img(three, one), nil, nil, 3},
		"that with the container's args":    {img(three, one), nil, two, 3},
		"the image's command":               {img(nil, three), nil, nil, 3},
		"the container's args":              {img(nil, three), nil, two, 2},
		"the container's command":           {img(three, three), one, two, 1},
		"args after a blank command":        {img(three, three), []string{""}, two, 2},
		"a blank entrypoint of the image":   {img([]string{""}, three), nil, nil, 3},
		"args instead of its command":       {img([]string{""}, three), nil, two, 2},
		"nothing":                           {img(nil, nil), nil, nil, 0},
		"an image of which nothing is told": {factsOf(image.InspectResponse{}), nil, three, 3},
	} {
		if got := tc.img.Program(tc.command, tc.args); got != tc.want {
			t.Errorf("%s: %d bytes, want %d", name, got, tc.want)
		}
	}
}
