package docker

import (
	"reflect"
	"testing"
)

func TestImageNames(t *testing.T) {
	if got := ImageNames([]string{"b:1", "<none>:<none>", "a:1", "x@<none>"}); !reflect.DeepEqual(got[:1], []string{"a:1"}) {
		t.Errorf("names %q", got)
	}
	if got := DigestedRef("sha256:x", []string{"<none>@<none>"}); got != "sha256:x" {
		t.Errorf("an image without a digest is %q", got)
	}
	if got := DigestedRef("sha256:x", []string{"b@sha256:1", "a@sha256:1"}); got != "a@sha256:1" {
		t.Errorf("an image with digests is %q", got)
	}
}
