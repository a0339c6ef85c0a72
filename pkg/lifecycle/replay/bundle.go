package replay

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
)

// The files of a bundle.
const (
	VersionsFile  = "versions.json"
	ConfigFile    = "configz.json"
	JournalFile   = "journal.ndjson"
	DecisionsFile = "decisions.ndjson"
)

var files = []string{VersionsFile, ConfigFile, JournalFile, DecisionsFile}

// Format is the version of the format of bundles.
const Format = 1

// Bounds of a bundle, in bytes: whoever sends one is not trusted.
const (
	MaxPart    = 64 << 20    // of one of its files
	MaxBundle  = 64 << 20    // of the bundle itself
	maxContent = 2 * MaxPart // of all of them; the page has the same bound
	maxLine    = 1 << 20     // of a line of DecisionsFile, and of VersionsFile
)

// Versions says which agent a bundle is of, and what that ran on.
type Versions struct {
	Bundle      int       `json:"bundle,omitempty"` // Format
	MiniKubelet string    `json:"miniKubelet"`
	Kubernetes  string    `json:"kubernetes"`
	Go          string    `json:"go,omitempty"`       // that compiled it
	Platform    string    `json:"platform,omitempty"` // such as linux/amd64
	Kernel      string    `json:"kernel,omitempty"`
	Runtime     string    `json:"runtime,omitempty"` // such as docker://20.10.24
	Written     time.Time `json:"written,omitzero"`
}

// Other says that it was another agent than own who decided, "" if it was the same.
func (v Versions) Other(own string) string {
	if v.MiniKubelet == own {
		return ""
	}
	var on []string
	for _, what := range []struct{ name, version string }{{"Kubernetes", v.Kubernetes}, {"kernel", v.Kernel}, {"runtime", v.Runtime}} {
		if what.version != "" {
			on = append(on, what.name+" "+shown(what.version))
		}
	}
	of := "an agent that does not say its version"
	if v.MiniKubelet != "" {
		of = "mini-kubelet " + shown(v.MiniKubelet)
	}
	if len(on) > 0 {
		of += " (" + strings.Join(on, ", ") + ")"
	}
	return "the bundle is of " + of + ", and this program is " + own
}

// shown is the text of somebody who is not trusted.
func shown(text string) string { return visible.Text(bounds.Cut(text, 100)) }

// Write makes a bundle of its files' contents, by their names; that of VersionsFile is the agent's own, to which the
// bundle's is added.
func Write(w io.Writer, parts map[string][]byte) error {
	var v Versions
	if err := json.Unmarshal(parts[VersionsFile], &v); err != nil {
		return fmt.Errorf("read the versions of the agent: %w", err)
	}
	v.Bundle, v.Written = Format, time.Now().UTC()
	versions, err := json.Marshal(v)
	if err != nil {
		return err
	}
	parts = maps.Clone(parts)
	parts[VersionsFile] = versions
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	for _, name := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(parts[name])), ModTime: time.Now()}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(parts[name]); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zip.Close())
}

var errTooLarge = errors.New("it has more than a bundle may have")

// bounded reads no more than left bytes.
type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Read makes all decisions of a bundle again, tells of each that comes out differently, and returns whose it is. It reads no more of it
// than a bundle may have.
func Read(bundle io.Reader, tell io.Writer) (Versions, Result, error) {
	var versions Versions
	var result Result
	unzipped, err := gzip.NewReader(&bounded{bundle, MaxBundle})
	if err != nil {
		return versions, result, err
	}
	archive, had := tar.NewReader(&bounded{unzipped, maxContent}), map[string]bool{}
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return versions, result, err
		}
		if !slices.Contains(files, h.Name) {
			return versions, result, fmt.Errorf("a bundle has no file %s", visible.Text(bounds.Quote(h.Name)))
		}
		if h.Typeflag != tar.TypeReg || had[h.Name] || h.Size > MaxPart {
			return versions, result, fmt.Errorf("%s is not one file of at most %d bytes", h.Name, MaxPart)
		}
		had[h.Name] = true
		switch h.Name {
		case VersionsFile:
			versions, err = readVersions(archive)
		case DecisionsFile:
			result, err = Decisions(archive, tell)
		}
		if err != nil {
			return versions, result, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	if !had[VersionsFile] || !had[DecisionsFile] {
		return versions, result, errors.New("it has no " + VersionsFile + " or no " + DecisionsFile)
	}
	return versions, result, nil
}

func readVersions(in io.Reader) (Versions, error) {
	var v Versions
	if err := json.NewDecoder(io.LimitReader(in, maxLine)).Decode(&v); err != nil {
		return v, err
	}
	if v.Bundle != Format {
		return v, fmt.Errorf("it is a bundle of format %d, and this program reads %d", v.Bundle, Format)
	}
	return v, nil
}
