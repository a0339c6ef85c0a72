package cri

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/image"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestDockershimRemovesAnImageForSeveralClients: when several clients remove one image at the
// same time, by whatever name, each of them finds nothing of it after its own call.
func TestDockershimRemovesAnImageForSeveralClients(t *testing.T) {
	t.Parallel()
	r := &runtime{harness.StartShim(t, harness.Docker(t)), t}
	docker := harness.Docker(t).Client
	run := rand.Uint64()
	status := func(name string) (*cri.Image, error) {
		st, err := r.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
		return st.GetImage(), err
	}
	for round := range 200 {
		tags := []string{fmt.Sprintf("test.local/removed-%x:%d", run, round), fmt.Sprintf("test.local/removed-%x:%d-again", run, round)}
		out, err := docker.ImageImport(t.Context(), image.ImportSource{Source: someFiles(t, tags[0]), SourceName: "-"}, tags[0], image.ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, out); err != nil {
			t.Fatal(err)
		}
		out.Close()
		if err := docker.ImageTag(t.Context(), tags[0], tags[1]); err != nil {
			t.Fatal(err)
		}
		made, err := status(tags[0])
		if err != nil || made == nil {
			t.Fatalf("%v, %v", made, err)
		}
		names := []string{tags[0], tags[1], made.Id, tags[0], made.Id}
		var clients sync.WaitGroup
		for _, name := range names {
			clients.Go(func() {
				if _, err := r.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: name}}); err != nil {
					t.Errorf("round %d, remove %s: %v", round, name, err)
				}
				for _, other := range append(tags, made.Id) {
					if left, err := status(other); err != nil || left != nil {
						t.Errorf("round %d: %s is removed, and %s is %v, %v", round, name, other, left, err)
					}
				}
			})
		}
		clients.Wait()
		if t.Failed() {
			return
		}
	}
}

// someFiles is a filesystem that no other image has. It takes Docker a moment to remove.
func someFiles(t *testing.T, content string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 100 {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("file", i), Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}
