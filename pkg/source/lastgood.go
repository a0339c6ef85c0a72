package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

// lastGood keeps on disk each manifest as it was when last good. It only serves an
// agent that starts with a bad manifest and has running pods from it, so a failure
// is only logged. Without a directory it keeps nothing.
type lastGood struct {
	dir     string
	pending map[string][]byte // to be written, by path; nil: to be removed
}

// keep and forget take effect at flush, so that no snapshot waits for a disk.
func (g *lastGood) keep(path string, data []byte) { g.put(path, bytes.Clone(data)) }

func (g *lastGood) forget(path string) { g.put(path, nil) }

func (g *lastGood) put(path string, data []byte) {
	if g.dir == "" {
		return
	}
	if g.pending == nil {
		g.pending = map[string][]byte{}
	}
	g.pending[path] = data
}

func (g *lastGood) load(path string) []byte {
	if g.dir == "" {
		return nil
	}
	var data []byte
	err := durable.Load(g.name(path), "A manifest as it was when last good. While the manifest itself is not, its pods are stopped: mend it.",
		func(text []byte) error {
			if data = text; len(bytes.TrimSpace(text)) == 0 {
				return errors.New("it is empty")
			}
			return nil
		})
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			klog.ErrorS(err, "Could not read the saved manifest", "file", path)
		}
		return nil
	}
	return data
}

// prune removes what was kept of manifests other than paths: they were removed
// while no agent ran.
func (g *lastGood) prune(paths []string) {
	if g.dir == "" {
		return
	}
	there := map[string]bool{}
	for _, p := range paths {
		there[g.name(p)] = true
	}
	entries, err := os.ReadDir(g.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.ErrorS(err, "Could not list the saved manifests")
	}
	for _, e := range entries {
		p := filepath.Join(g.dir, e.Name())
		if durable.Temporary(e.Name()) && there[filepath.Join(g.dir, durable.Original(e.Name()))] {
			continue // it was moved aside
		}
		if !there[p] {
			if err := os.Remove(p); err != nil {
				klog.ErrorS(err, "Could not remove a saved manifest")
			}
		}
	}
}

func (g *lastGood) name(path string) string {
	h := sha256.Sum256([]byte(path))
	return filepath.Join(g.dir, hex.EncodeToString(h[:16]))
}

func (g *lastGood) flush() {
	if len(g.pending) > 0 {
		_ = durable.MakeWay(g.dir, "Manifests as they were when last good.") // writing says what is wrong
	}
	for path, data := range g.pending {
		var err error
		if data == nil {
			if err = os.Remove(g.name(path)); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		} else if before, e := durable.Read(g.name(path)); e != nil || !bytes.Equal(before, data) {
			err = durable.Write(g.name(path), data)
		}
		if err != nil {
			klog.ErrorS(err, "Could not save the manifest", "file", path)
		}
	}
	clear(g.pending)
}
