package replay

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	MaxPart    = 64 << 20 // of one of its files
	maxFile    = 64 << 20 // of the bundle itself
	maxContent = 4 * MaxPart
	maxLine    = 1 << 20 // of a line of DecisionsFile, and of VersionsFile
)

// Versions says what wrote a bundle.
type Versions struct {
	Bundle      int       `json:"bundle"` // Format
	MiniKubelet string    `json:"miniKubelet"`
	Kubernetes  string    `json:"kubernetes"`
	Written     time.Time `json:"written"`
}

// Write makes a bundle of its files' contents, by their names.
func Write(w io.Writer, parts map[string][]byte) error {
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

// Read makes all decisions of a bundle again, and tells of each that comes out differently. It reads no more of it than a
// bundle may have.
func Read(bundle io.Reader, tell io.Writer) (Result, error) {
	var result Result
	unzipped, err := gzip.NewReader(&bounded{bundle, maxFile})
	if err != nil {
		return result, err
	}
	archive, had := tar.NewReader(&bounded{unzipped, maxContent}), map[string]bool{}
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return result, err
		}
		switch h.Name {
		case VersionsFile, ConfigFile, JournalFile, DecisionsFile:
		default:
			return result, fmt.Errorf("a bundle has no file %s", visible.Text(bounds.Quote(h.Name)))
		}
		if h.Typeflag != tar.TypeReg || had[h.Name] || h.Size > MaxPart {
			return result, fmt.Errorf("%s is not one file of at most %d bytes", h.Name, MaxPart)
		}
		had[h.Name] = true
		switch h.Name {
		case VersionsFile:
			err = checkVersion(archive)
		case DecisionsFile:
			result, err = Decisions(archive, tell)
		}
		if err != nil {
			return result, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	if !had[VersionsFile] || !had[DecisionsFile] {
		return result, errors.New("it has no " + VersionsFile + " or no " + DecisionsFile)
	}
	return result, nil
}

func checkVersion(in io.Reader) error {
	var v Versions
	if err := json.NewDecoder(io.LimitReader(in, maxLine)).Decode(&v); err != nil {
		return err
	}
	if v.Bundle != Format {
		return fmt.Errorf("it is a bundle of format %d, and this program reads %d", v.Bundle, Format)
	}
	return nil
}
