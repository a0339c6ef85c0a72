package integration

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"

	"github.com/docker/docker/api/types/image"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestLinksInAnImageLeadNowhereElse mounts directories of an image that are links to the
// host's, as containerd's CVE-2022-23648 read them: each is the image's own.
func TestLinksInAnImageLeadNowhereElse(t *testing.T) {
	a := start(t)
	docker := harness.Docker(t)
	links := map[string]string{"absolute": "/etc", "up": "../../../../../../../../../../etc", "twice": "absolute"}
	var fs bytes.Buffer
	w := tar.NewWriter(&fs)
	entries := []*tar.Header{
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/marker", Typeflag: tar.TypeReg, Mode: 0o644},
	}
	for name, to := range links {
		entries = append(entries, &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to})
	}
	for _, h := range entries {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ref := "links.test/links:" + a.Node
	out, err := docker.Client.ImageImport(t.Context(), image.ImportSource{Source: &fs, SourceName: "-"}, ref, image.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeImage(t, docker, ref) })
	for name := range links {
		a.Write(name+".yaml", harness.Pod(name, "ls /image >/dev/termination-log", ofImageVolume(ref, name)))
	}
	for name := range links {
		p := a.WaitPhase(name, v1.PodSucceeded)
		if saw := harness.Status(p, "c").State.Terminated.Message; saw != "marker\n" {
			t.Errorf("%s shows %q, want the image's own marker", name, saw)
		}
	}
	for name := range links { // before the image is removed
		a.Remove(name + ".yaml")
		a.WaitGone(name)
	}
}
