package source

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

const (
	// defaultPeriod is the kubelet's fileCheckFrequency and httpCheckFrequency.
	defaultPeriod = 20 * time.Second
	// quiet is how long no event must come before the directory is looked at, and
	// longest is how long events can delay that.
	quiet, longest = 2 * time.Millisecond, 50 * time.Millisecond
)

// FileConfig is what a FileSource is made of.
type FileConfig struct {
	Path     string        // manifest file or directory; it need not exist
	NodeName string        // of this node
	Period   time.Duration // between full rescans; 0: 20 s
	Clock    clock.WithTicker
	Report   func(manifest.Problem) // is called once with each problem; nil: LogProblem
	// StateDir, if not empty, is a directory for this source alone, in which it keeps
	// each manifest that was good, so that a bad edit leaves the running pod as it was
	// even after a restart of the agent.
	StateDir string
	// Objects accepts documents of objects that pods use, for a standalone node; false
	// refuses them.
	Objects bool
	// Journal notes each manifest that is read, has changed or is gone; nil: nobody does.
	Journal *journal.Journal
	// Lenient drops unknown and duplicate fields with a warning instead of refusing them.
	Lenient bool
}

// FileSource reads pods, and the objects that they use, from a manifest file or from the
// files of a directory. It looks when the file system reports a change, and every period
// in case one was missed. Files whose names begin with a dot are hidden, as in the
// kubelet, and editors' backups ("web.yaml~", "#web.yaml#") are skipped with a warning.
//
// If a file cannot be read, or a document in it is not valid, what it last gave stays; so it
// does if the whole directory vanishes. If a file is removed, its pods go.
type FileSource struct {
	cfg    FileConfig
	origin manifest.Origin
	store  *lastGood

	files   map[string]*file // by path
	watch   *watcher
	links   []string        // found by the last look
	removed map[string]bool // files reported as removed since the last good look at their directory
	spoken  bool
	started time.Time
	looks   int
	noted   uint64 // the last that was noted of a manifest

	mu       sync.Mutex
	problems manifest.Book
	origins  map[manifest.Ident]string // the file of what is wanted
}

// NewFile checks the configuration. It touches no file.
func NewFile(cfg FileConfig) (*FileSource, error) {
	if cfg.Path == "" || cfg.NodeName == "" {
		return nil, errors.New("file source: no Path or NodeName")
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("file source: %w", err)
	}
	cfg.Path = path
	if cfg.Period <= 0 {
		cfg.Period = defaultPeriod
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	return &FileSource{
		cfg:      cfg,
		origin:   manifest.Origin{Source: pods.SourceFile, Node: cfg.NodeName, Objects: cfg.Objects, Lenient: cfg.Lenient},
		store:    &lastGood{dir: cfg.StateDir},
		files:    map[string]*file{},
		removed:  map[string]bool{},
		problems: manifest.NewBook(cfg.Report),
	}, nil
}

// Problems returns what is wrong as of the last look, in the order in which the files came.
// Safe for concurrent use.
func (s *FileSource) Problems() []manifest.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problems.All
}

// Where returns the file that has a pod or object, and the line of one of its fields or of what the file has of
// the field's path: 0 if the file does not have it any more; "" if no file had it at the last look.
// Safe for concurrent use.
func (s *FileSource) Where(id manifest.Ident, field string) (path string, line int) {
	s.mu.Lock()
	path = s.origins[id]
	s.mu.Unlock()
	if path == "" {
		return "", 0
	}
	data, _, err := readSettled(path, heldFor)
	if err != nil {
		return path, 0
	}
	return path, s.origin.Line(data, id, field)
}

// placed returns which file has what.
func (s *FileSource) placed() map[manifest.Ident]string {
	all := map[manifest.Ident]string{}
	for path, f := range s.files {
		for _, id := range f.Idents() {
			all[id] = path
		}
	}
	return all
}

// Run sends a snapshot at once and after each change, until ctx ends. It does not
// stop earlier: it reports problems and waits until they are fixed. Run it once.
func (s *FileSource) Run(ctx context.Context, out chan<- Snapshot) error {
	s.watch = &watcher{}
	defer s.watch.close()
	s.started = s.cfg.Clock.Now()
	rescan := s.cfg.Clock.NewTicker(s.cfg.Period)
	defer rescan.Stop()
	settle := s.cfg.Clock.NewTimer(time.Hour)
	defer settle.Stop()
	var firstEvent time.Time // of those not yet handled

	look := func() bool {
		firstEvent = time.Time{}
		snapshot, again := s.look()
		if again > 0 {
			settle.Reset(again)
		} else {
			settle.Stop()
		}
		if snapshot == nil {
			return true
		}
		select {
		case out <- *snapshot:
		case <-ctx.Done():
			return false
		}
		s.store.flush()
		return true
	}
	if !look() {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-s.watch.events():
			if !s.watch.concerns(e) {
				continue
			}
			klog.V(4).InfoS("Manifest event", "file", e.Name, "op", e.Op.String())
			if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
				if filepath.Dir(e.Name) == s.watch.real {
					s.removed[filepath.Join(s.cfg.Path, filepath.Base(e.Name))] = true
				}
			}
			now := s.cfg.Clock.Now()
			if firstEvent.IsZero() {
				firstEvent = now
			}
			settle.Reset(max(0, min(quiet, longest-now.Sub(firstEvent))))
		case err := <-s.watch.errors():
			// Events were lost: only a look at everything helps.
			klog.V(2).InfoS("Manifest events lost", "path", s.cfg.Path, "err", err)
			settle.Reset(0)
		case <-settle.C():
			if !look() {
				return nil
			}
		case <-rescan.C():
			if !look() {
				return nil
			}
		}
	}
}
