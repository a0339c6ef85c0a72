package docker

import (
	"slices"
	"strings"
)

// ImageNames drops the placeholders that older engines list for images without a tag or
// digest, and sorts the rest, so that the first name is always the same one.
func ImageNames(names []string) []string {
	named := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.HasPrefix(name, "<none>") })
	slices.Sort(named)
	return named
}

// DigestedRef names an image by a digest under which a registry knows it, or by its ID
// when it never was in a registry. CRI calls this the image_ref of a container.
func DigestedRef(id string, repoDigests []string) string {
	if named := ImageNames(repoDigests); len(named) > 0 {
		return named[0]
	}
	return id
}
