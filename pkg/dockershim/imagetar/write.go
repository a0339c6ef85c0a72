package imagetar

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// epoch is the time of everything in the archive for which the caller has chosen none.
var epoch = time.Unix(0, 0).UTC()

// Write writes the image as an archive for `docker load` and returns the image id,
// "sha256:...", that Docker's own image store will give it. Every file is read twice,
// because the archive names the layer's digest before the layer.
func Write(w io.Writer, img Image) (id string, err error) {
	names, err := familiarRefs(img.Refs)
	if err != nil {
		return "", err
	}
	files, err := layout(img.Files)
	if err != nil {
		return "", err
	}
	measured, err := measure(files)
	if err != nil {
		return "", err
	}
	config, err := json.Marshal(imageConfig(img, measured.digest()))
	if err != nil {
		return "", fmt.Errorf("write the image's configuration: %w", err)
	}
	id = digest.FromBytes(config).String()
	configName := digest.FromBytes(config).Encoded() + ".json"
	layerName := measured.digest().Encoded() + "/layer.tar"
	manifest, err := json.Marshal([]struct {
		Config   string
		RepoTags []string
		Layers   []string
	}{{configName, names, []string{layerName}}})
	if err != nil {
		return "", fmt.Errorf("write the image's manifest: %w", err)
	}

	archive := tar.NewWriter(w)
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: measured.digest().Encoded() + "/", Mode: 0o755, ModTime: epoch}); err != nil {
		return "", fmt.Errorf("write the image archive: %w", err)
	}
	if err := archive.WriteHeader(regular(layerName, measured.size)); err != nil {
		return "", fmt.Errorf("write the image archive: %w", err)
	}
	written := &meter{hash: sha256.New()}
	if err := writeLayer(io.MultiWriter(archive, written), files); err != nil {
		return "", err
	}
	if written.digest() != measured.digest() {
		return "", fmt.Errorf("a file changed while the image was written")
	}
	for _, doc := range []struct {
		name    string
		content []byte
	}{{configName, config}, {"manifest.json", manifest}} {
		if err := archive.WriteHeader(regular(doc.name, int64(len(doc.content)))); err != nil {
			return "", fmt.Errorf("write the image archive: %w", err)
		}
		if _, err := archive.Write(doc.content); err != nil {
			return "", fmt.Errorf("write the image archive: %w", err)
		}
	}
	if err := archive.Close(); err != nil {
		return "", fmt.Errorf("write the image archive: %w", err)
	}
	return id, nil
}

// Layer is the digest of the image's layer, as Docker names it among the image's
// RootFS.
func Layer(img Image) (digest.Digest, error) {
	files, err := layout(img.Files)
	if err != nil {
		return "", err
	}
	measured, err := measure(files)
	if err != nil {
		return "", err
	}
	return measured.digest(), nil
}

func measure(files []File) (*meter, error) {
	m := &meter{hash: sha256.New()}
	if err := writeLayer(m, files); err != nil {
		return nil, err
	}
	return m, nil
}

func imageConfig(img Image, layer digest.Digest) ocispec.Image {
	arch := img.Arch
	if arch == "" {
		arch = runtime.GOARCH
	}
	created := img.Created.UTC()
	if img.Created.IsZero() {
		created = epoch
	}
	return ocispec.Image{
		Created:  &created,
		Platform: ocispec.Platform{Architecture: arch, OS: "linux"},
		Config:   img.Config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer}},
		History:  []ocispec.History{{Created: &created, CreatedBy: "mini-kubelet imagetar"}},
	}
}

func writeLayer(w io.Writer, files []File) error {
	layer := tar.NewWriter(w)
	for _, f := range files {
		if err := writeFile(layer, f); err != nil {
			return fmt.Errorf("write image file %s: %w", f.Path, err)
		}
	}
	if err := layer.Close(); err != nil {
		return fmt.Errorf("write the image's layer: %w", err)
	}
	return nil
}

func writeFile(layer *tar.Writer, f File) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: tarMode(f.Mode), Uid: f.UID, Gid: f.GID, ModTime: epoch}
	switch {
	case f.Mode.IsDir():
		header.Typeflag = tar.TypeDir
		header.Name += "/"
		return layer.WriteHeader(header)
	case f.Mode.Type() == fs.ModeSymlink:
		header.Typeflag = tar.TypeSymlink
		header.Linkname = f.Link
		return layer.WriteHeader(header)
	}
	header.Size = f.size
	if err := layer.WriteHeader(header); err != nil {
		return err
	}
	content, err := f.open()
	if err != nil {
		return err
	}
	defer content.Close()
	if n, err := io.Copy(layer, content); err != nil {
		return err
	} else if n != f.size {
		return fmt.Errorf("it shrank from %d to %d bytes", f.size, n)
	}
	return nil
}

func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, tarBit := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= tarBit
		}
	}
	return mode
}

func regular(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: epoch}
}

// meter counts and hashes what is written to it.
type meter struct {
	hash hash.Hash
	size int64
}

func (m *meter) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	return m.hash.Write(p)
}

func (m *meter) digest() digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(m.hash.Sum(nil)))
}
