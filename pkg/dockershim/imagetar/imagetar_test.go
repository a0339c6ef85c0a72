package imagetar

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func sample() Image {
	return Image{
		Refs: []string{"mini-kubelet.test/imagetar:1", "mini-kubelet.test/imagetar:other"},
		Config: ocispec.ImageConfig{
			Entrypoint: []string{"/bin/sh"}, Cmd: []string{"-c", "true"}, Env: []string{"A=b"}, User: "7:8",
			Labels: map[string]string{"l": "v"}, StopSignal: "SIGINT", Volumes: map[string]struct{}{"/v": {}}, WorkingDir: "/w",
		},
		Files: []File{
			Bytes("/usr/bin/tool", 0o755|fs.ModeSetuid, []byte("#!x\n")),
			Symlink("bin", "usr/bin"),
			Dir("/tmp", 0o777|fs.ModeSticky),
			{Path: "etc/owned", Mode: 0o640, UID: 5, GID: 6, size: 2, open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("ok")), nil }},
		},
	}
}

func entries(t *testing.T, r io.Reader) (names []string, headers map[string]*tar.Header, content map[string][]byte) {
	t.Helper()
	headers, content = map[string]*tar.Header{}, map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names, headers, content
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		headers[h.Name], content[h.Name] = h, data
	}
}

func TestArchiveHoldsManifestConfigAndLayer(t *testing.T) {
	var buf bytes.Buffer
	id, err := Write(&buf, sample())
	if err != nil {
		t.Fatal(err)
	}
	_, _, docs := entries(t, &buf)
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(docs["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	m := manifest[0]
	if want := []string{"mini-kubelet.test/imagetar:1", "mini-kubelet.test/imagetar:other"}; !slices.Equal(m.RepoTags, want) {
		t.Errorf("names %v", m.RepoTags)
	}
	sum := sha256.Sum256(docs[m.Config])
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != id {
		t.Errorf("id %s, the configuration's digest is %s", id, got)
	}
	var config ocispec.Image
	if err := json.Unmarshal(docs[m.Config], &config); err != nil {
		t.Fatal(err)
	}
	layer := docs[m.Layers[0]]
	sum = sha256.Sum256(layer)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != config.RootFS.DiffIDs[0].String() {
		t.Errorf("diff id %s, the layer's digest is %s", config.RootFS.DiffIDs[0], got)
	}
	if config.Config.User != "7:8" || config.Config.StopSignal != "SIGINT" || config.OS != "linux" || config.Architecture == "" {
		t.Errorf("configuration %+v", config)
	}

	names, headers, content := entries(t, bytes.NewReader(layer))
	if want := []string{"bin", "etc/", "etc/owned", "tmp/", "usr/", "usr/bin/", "usr/bin/tool"}; !slices.Equal(names, want) {
		t.Errorf("layer %v, want %v", names, want)
	}
	for name, want := range map[string]struct {
		mode     int64
		uid, gid int
		link     string
		content  string
	}{
		"bin":          {mode: 0o777, link: "usr/bin"},
		"etc/":         {mode: 0o755},
		"etc/owned":    {mode: 0o640, uid: 5, gid: 6, content: "ok"},
		"tmp/":         {mode: 0o1777},
		"usr/bin/tool": {mode: 0o4755, content: "#!x\n"},
	} {
		h := headers[name]
		if h.Mode != want.mode || h.Uid != want.uid || h.Gid != want.gid || h.Linkname != want.link || string(content[name]) != want.content || h.ModTime.Unix() != 0 {
			t.Errorf("%s: %+v %q", name, h, content[name])
		}
	}
}

func TestSameImageGivesTheSameBytes(t *testing.T) {
	var first, second bytes.Buffer
	one := sample()
	if _, err := Write(&first, one); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(one.Files)
	if _, err := Write(&second, one); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the order of the files changed the archive")
	}
}

func TestBadImagesAreRefused(t *testing.T) {
	x := Bytes("x", 0o644, nil)
	tests := []struct {
		name  string
		refs  []string
		files []File
		want  string
	}{
		{"no name", nil, []File{x}, "no name"},
		{"no tag", []string{"a.test/b"}, []File{x}, "no tag"},
		{"name with capitals", []string{"a.test/B:1"}, []File{x}, "lowercase"},
		{"digest", []string{"a.test/b:1@sha256:" + strings.Repeat("a", 64)}, []File{x}, "digest"},
		{"climbing path", []string{"a.test/b:1"}, []File{Bytes("../x", 0o644, nil)}, ".."},
		{"root", []string{"a.test/b:1"}, []File{Bytes("/", 0o644, nil)}, "no name"},
		{"same path twice", []string{"a.test/b:1"}, []File{x, Bytes("/x", 0o644, nil)}, "twice"},
		{"file in a file", []string{"a.test/b:1"}, []File{x, Bytes("x/y", 0o644, nil)}, "not a directory"},
		{"whiteout", []string{"a.test/b:1"}, []File{Bytes("a/.wh.x", 0o644, nil)}, ".wh."},
		{"device", []string{"a.test/b:1"}, []File{{Path: "d", Mode: fs.ModeDevice}}, "neither"},
		{"no content", []string{"a.test/b:1"}, []File{{Path: "d", Mode: 0o644}}, "no content"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Write(io.Discard, Image{Refs: tt.refs, Files: tt.files})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
		})
	}
}

func TestFileThatChangesMeanwhileIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("first"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := HostFile("f", 0o644, path)
	if err != nil {
		t.Fatal(err)
	}
	reads := 0
	open := f.open
	f.open = func() (io.ReadCloser, error) {
		if reads++; reads == 2 {
			if err := os.WriteFile(path, []byte("other"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return open()
	}
	if _, err := Write(io.Discard, Image{Refs: []string{"a.test/b:1"}, Files: []File{f}}); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("error %v", err)
	}
}

// fakeDocker answers a load as told, after reading read bytes (-1: all).
type fakeDocker struct {
	read   int64
	answer string
	err    error
}

func (d fakeDocker) ImageLoad(_ context.Context, in io.Reader, _ ...client.ImageLoadOption) (image.LoadResponse, error) {
	if d.read < 0 {
		if _, err := io.Copy(io.Discard, in); err != nil {
			return image.LoadResponse{}, err
		}
	} else if _, err := io.CopyN(io.Discard, in, d.read); err != nil {
		return image.LoadResponse{}, err
	}
	return image.LoadResponse{Body: io.NopCloser(strings.NewReader(d.answer))}, d.err
}

func TestLoadReportsWhatWentWrong(t *testing.T) {
	broken := sample()
	broken.Files = append(broken.Files, File{Path: "broken", size: 1, open: func() (io.ReadCloser, error) { return nil, fmt.Errorf("disk on fire") }})
	tests := []struct {
		name   string
		docker fakeDocker
		image  Image
		want   string
	}{
		{"all well", fakeDocker{read: -1, answer: `{"stream":"Loaded image: x\n"}`}, sample(), ""},
		{"answer before the padding was read", fakeDocker{read: 2048, answer: `{"stream":"Loaded"}`}, sample(), ""},
		{"error within the answer", fakeDocker{read: -1, answer: `{"errorDetail":{"message":"no space"},"error":"no space"}`}, sample(), "no space"},
		{"refused", fakeDocker{read: 10, err: errors.New("refused")}, sample(), "refused"},
		{"answer cut off", fakeDocker{read: -1, answer: `{"stream":`}, sample(), "unexpected EOF"},
		{"source unreadable", fakeDocker{read: -1}, broken, "disk on fire"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := Load(t.Context(), tt.docker, tt.image)
			if tt.want == "" {
				if err != nil || !strings.HasPrefix(id, "sha256:") {
					t.Errorf("id %q, error %v", id, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
		})
	}
}

func TestDockerLoadsTheImage(t *testing.T) {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	if _, err := docker.Ping(t.Context()); err != nil {
		t.Skipf("no Docker: %v", err)
	}
	img := sample()
	img.Refs = []string{"mini-kubelet.test/imagetar-load:1"}
	t.Cleanup(func() { _, _ = docker.ImageRemove(context.Background(), img.Refs[0], image.RemoveOptions{}) })
	var ids [2]string
	for i := range ids { // the second time it is there already
		if ids[i], err = Load(t.Context(), docker, img); err != nil {
			t.Fatal(err)
		}
	}
	got, err := docker.ImageInspect(t.Context(), img.Refs[0])
	if err != nil {
		t.Fatal(err)
	}
	if ids[0] != ids[1] || got.Descriptor == nil && got.ID != ids[0] {
		t.Errorf("ids %v, Docker says %s", ids, got.ID)
	}
	if c := got.Config; c.User != "7:8" || c.StopSignal != "SIGINT" || c.WorkingDir != "/w" || c.Labels["l"] != "v" || !slices.Equal(c.Env, []string{"A=b"}) {
		t.Errorf("configuration %+v", c)
	}
}
