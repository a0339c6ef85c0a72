package main

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/testimage"
)

func TestImageIsLoadedOnce(t *testing.T) {
	docker := testimage.Docker(t)
	ref := "mini-kubelet.test/demo:" + strings.ToLower(rand.Text())
	testimage.RemoveLater(t, docker, ref)
	for _, want := range []string{" loaded into Docker (sha256:", " is in Docker already (sha256:"} {
		var out bytes.Buffer
		if err := run(t.Context(), ref, &out); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), "image "+ref+want) || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("said %q, want one line with %q", out.String(), want)
		}
	}
}

func TestDockerThatDoesNotAnswerIsSaid(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
	err := run(t.Context(), ref, t.Output())
	if err == nil || !strings.Contains(err.Error(), "docker must run") || !strings.Contains(err.Error(), "/nonexistent/docker.sock") {
		t.Errorf("error %v", err)
	}
}
