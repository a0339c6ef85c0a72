package imagetar

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is a container image of one layer.
type Image struct {
	// Refs are the image's names with tags, e.g. "example.local/web:v1".
	Refs []string
	// Arch is the CPU architecture as Go and OCI name it; that of this process
	// when empty. The operating system is always linux.
	Arch string
	// Created is the image's time of creation; 1970-01-01 when zero, so that the
	// image id depends on the content alone.
	Created time.Time
	// Config is what containers of the image run: Entrypoint, Cmd, Env, User,
	// WorkingDir, StopSignal, Labels, Volumes, ExposedPorts.
	Config ocispec.ImageConfig
	Files  []File
}

// File is one entry of the image's file system. Bytes, HostFile, Symlink and Dir
// make them; UID and GID may be set on the result and are 0 otherwise.
type File struct {
	Path string      // from the image's root, with or without a leading slash
	Mode fs.FileMode // type and permissions, setuid, setgid and sticky included
	Link string      // what a symlink points to
	UID  int
	GID  int

	size int64
	open func() (io.ReadCloser, error)
}

// Bytes is a regular file with the given content.
func Bytes(path string, mode fs.FileMode, content []byte) File {
	return File{Path: path, Mode: mode, size: int64(len(content)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

// HostFile is a regular file with the content of a file of this machine, which
// must not change while the image is written.
func HostFile(path string, mode fs.FileMode, source string) (File, error) {
	info, err := os.Stat(source)
	if err != nil {
		return File{}, fmt.Errorf("read the source of image file %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return File{}, fmt.Errorf("the source of image file %s: %s is not a regular file", path, source)
	}
	return File{Path: path, Mode: mode, size: info.Size(), open: func() (io.ReadCloser, error) { return os.Open(source) }}, nil
}

// Symlink is a symbolic link to target, which is not checked.
func Symlink(path, target string) File {
	return File{Path: path, Mode: fs.ModeSymlink | 0o777, Link: target}
}

// Dir is a directory. Parents of files are needed only to give them a mode or owner other than
// 0755 and root.
func Dir(path string, mode fs.FileMode) File {
	return File{Path: path, Mode: fs.ModeDir | mode}
}

// layout is the image's files as the layer holds them: clean paths without a
// leading slash, parents present and before their children, no path twice.
func layout(files []File) ([]File, error) {
	byPath := map[string]File{}
	for _, f := range files {
		clean := strings.TrimPrefix(path.Clean("/"+f.Path), "/")
		switch {
		case clean == "":
			return nil, fmt.Errorf("image file %q: no name", f.Path)
		case slices.Contains(strings.Split(f.Path, "/"), ".."):
			return nil, fmt.Errorf("image file %q: its path climbs with .. elements", f.Path)
		case strings.HasPrefix(path.Base(clean), ".wh."):
			// Layers delete files of lower layers by such names.
			return nil, fmt.Errorf("image file %q: names that begin with .wh. mean deletion", f.Path)
		}
		if _, twice := byPath[clean]; twice {
			return nil, fmt.Errorf("image file %q is there twice", f.Path)
		}
		switch t := f.Mode.Type(); {
		case t == 0 && f.open == nil:
			return nil, fmt.Errorf("image file %q has no content", f.Path)
		case t != 0 && t != fs.ModeDir && t != fs.ModeSymlink:
			return nil, fmt.Errorf("image file %q: %s is neither file, directory nor symlink", f.Path, f.Mode)
		}
		f.Path = clean
		byPath[clean] = f
	}
	for child := range byPath {
		for dir := path.Dir(child); dir != "."; dir = path.Dir(dir) {
			switch parent, found := byPath[dir]; {
			case !found:
				byPath[dir] = Dir(dir, 0o755)
			case !parent.Mode.IsDir():
				return nil, fmt.Errorf("image file %q lies in %q, which is not a directory", child, dir)
			}
		}
	}
	sorted := make([]File, 0, len(byPath))
	for _, f := range byPath {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return sorted, nil
}

// familiarRefs returns the image's names as Docker writes them into its archives.
func familiarRefs(refs []string) ([]string, error) {
	if len(refs) == 0 {
		return nil, fmt.Errorf("the image has no name")
	}
	names := make([]string, len(refs))
	for i, ref := range refs {
		named, err := reference.ParseNormalizedNamed(ref)
		if err != nil {
			return nil, fmt.Errorf("image name %q: %w", ref, err)
		}
		if tagged, ok := named.(reference.NamedTagged); !ok || !reference.IsNameOnly(reference.TrimNamed(tagged)) {
			return nil, fmt.Errorf("image name %q has no tag", ref)
		}
		if _, ok := named.(reference.Digested); ok {
			return nil, fmt.Errorf("image name %q: a digest cannot be given to an image that is being made", ref)
		}
		names[i] = reference.FamiliarString(named)
	}
	return names, nil
}
