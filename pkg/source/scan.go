package source

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

// goneFor is how long a file must be gone before its pods go: editors replace a
// file by moving the old one away before they write the new one.
const goneFor = 50 * time.Millisecond

// firstWait bounds how long the first snapshot waits for files that are being
// written: without their pods the snapshot would stop those.
const firstWait = 3 * time.Second

// file is what is known about one manifest.
type file struct {
	reading
	manifest.Content // now: from the last read, or kept from before it
	problems         []manifest.Problem
	gone             time.Time // when it was first found missing; zero while it is there
	arrived          int       // in which look it was found
	noted            uint64    // the last read, in the journal
}

// look reads what has changed. It returns a snapshot if what is wanted may have
// changed, and after how long to look again even if nothing happens: 0 for never.
func (s *FileSource) look() (_ *Snapshot, again time.Duration) {
	now := s.cfg.Clock.Now()
	if s.looks++; s.looks == 1 {
		s.recall()
	}
	// Before the list is made, so as not to miss a change after it.
	s.watch.follow(s.cfg.Path, s.links)
	paths, links, whole, complete := s.list()
	s.links = links
	changed := false
	for _, p := range paths {
		f := s.files[p]
		if f == nil {
			f = &file{arrived: s.looks}
			s.files[p] = f
		}
		back := !f.gone.IsZero()
		f.gone = time.Time{}
		delete(s.removed, p)
		if s.read(p, f, now) || back {
			changed = true
		}
		again = sooner(again, f.retry)
	}
	for p, f := range s.files {
		if _, there := slices.BinarySearch(paths, p); there {
			continue
		}
		if !complete && !s.removed[p] && f.gone.IsZero() {
			continue // its directory cannot be read: it may still exist
		}
		if f.gone.IsZero() {
			f.gone = now
			changed = true
		}
		if left := f.gone.Add(goneFor).Sub(now); left > 0 {
			again = sooner(again, left)
			continue
		}
		s.note(p, "removed", f, 0)
		klog.V(2).InfoS("Manifest removed", "file", p, "pods", len(f.Pods))
		s.store.forget(p)
		delete(s.files, p)
		delete(s.removed, p)
		changed = true
	}
	if complete {
		clear(s.removed)
	}
	s.watch.follow(s.cfg.Path, links)

	if !s.spoken && again > 0 && now.Sub(s.started) < firstWait {
		return nil, again
	}
	all, problems := s.merge()
	for i := range whole {
		whole[i].Source = pods.SourceFile
	}
	s.mu.Lock()
	s.problems.Set(append(whole, problems...))
	s.origins = s.placed()
	s.mu.Unlock()
	if s.spoken && !changed {
		return nil, again
	}
	if !s.spoken && !complete && !errors.Is(s.missing(), fs.ErrNotExist) {
		return nil, again // unreadable, not missing: it is not known what is wanted
	}
	if !s.spoken && complete {
		s.store.prune(paths)
	}
	s.spoken = true
	return &Snapshot{Source: pods.SourceFile, Pods: all.Pods, Objects: all.Objects, Cause: s.noted, Causes: s.causes()}, again
}

// note notes what was found of a manifest. What is wrong with it is noted by who reports problems.
func (s *FileSource) note(path, what string, f *file, took time.Duration) {
	s.noted = s.cfg.Journal.Note(journal.Event{
		Kind: journal.Source, Name: path, Reason: what, Took: took, Detail: found{len(f.Pods), len(f.Objects), len(f.problems)},
	})
	f.noted = s.noted
}

// causes returns which look has given each pod that is wanted.
func (s *FileSource) causes() map[types.UID]uint64 {
	all := map[types.UID]uint64{}
	for _, f := range s.files {
		for _, p := range f.Pods {
			all[p.UID] = f.noted
		}
	}
	return all
}

// found is what a look at a source gave.
type found struct{ pods, objects, problems int }

// String implements fmt.Stringer.
func (f found) String() string {
	return fmt.Sprintf("pods: %d, objects: %d, problems: %d", f.pods, f.objects, f.problems)
}

// recall takes in what manifests gave when they were last good, if the path does not exist when the
// agent starts: a disk may not be mounted yet. It is as if the path had gone while the agent ran.
func (s *FileSource) recall() {
	if !errors.Is(s.missing(), fs.ErrNotExist) {
		return
	}
	for _, path := range s.store.paths() {
		from := s.origin
		from.From = path
		if content, ok := s.store.content(from, s.cfg.NodeName); ok {
			s.files[path] = &file{Content: content, arrived: s.looks}
		}
	}
}

func (s *FileSource) missing() error {
	_, err := os.Stat(s.cfg.Path)
	return err
}

// list returns the manifests, in order; those that are symbolic links; what is
// wrong with the path or its entries; and whether the listing is complete, so that
// a file which is not in it does not exist.
func (s *FileSource) list() (paths, links []string, problems []manifest.Problem, complete bool) {
	path := s.cfg.Path
	problem := func(p, message string) { problems = append(problems, manifest.Problem{File: p, Message: message}) }
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A single file that is gone from its directory has been removed.
		_, single := s.files[path]
		if _, err := os.Stat(filepath.Dir(path)); single && err == nil {
			problem(path, "does not exist")
			return nil, nil, problems, true
		}
		text := "does not exist"
		if len(s.files) > 0 {
			text += "; the pods of the manifests that were there run on until it does, if only as an empty directory"
		}
		problem(path, text)
		return nil, nil, problems, false
	case err != nil:
		problem(path, err.Error())
		return nil, nil, problems, false
	case info.Mode().IsRegular():
		return []string{path}, nil, nil, true
	case !info.IsDir():
		problem(path, "is neither a file nor a directory")
		return nil, nil, problems, false
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		problem(path, err.Error())
		return nil, nil, problems, false
	}
	for _, e := range entries {
		name, p := e.Name(), filepath.Join(path, e.Name())
		switch {
		case strings.HasPrefix(name, "."):
			continue
		case strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#"):
			problem(p, "is an editor's backup by its name and is not read")
			continue
		case e.Type()&fs.ModeSymlink != 0:
			links = append(links, p)
		case e.IsDir():
			problem(p, "is a directory; manifests are read from the directory above only")
			continue
		case !e.Type().IsRegular():
			problem(p, fmt.Sprintf("is not a regular file but %s, and is not read", kindOf(e.Type())))
			continue
		}
		paths = append(paths, p)
	}
	return paths, links, problems, true
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// read reads a file that has changed. It reports whether what is wanted from it may
// have changed.
func (s *FileSource) read(path string, f *file, now time.Time) (changed bool) {
	first := !f.read
	from := s.origin
	from.From = path
	begun := s.cfg.Clock.Now()
	data, err := f.reading.next(path, now)
	switch {
	case err != nil:
		before := f.problems
		f.problems = []manifest.Problem{{Source: pods.SourceFile, File: path, Message: err.Error()}}
		if !slices.Equal(before, f.problems) { // which is told at each look
			s.note(path, "read", f, 0)
		}
		if first {
			f.Content, _ = s.store.content(from, s.cfg.NodeName)
		}
		return first && len(f.Pods)+len(f.Objects) > 0
	case data == nil:
		return false
	}
	docs := from.Read(data)
	if first && manifest.NeedsKept(docs) {
		f.Content, _ = s.store.content(from, s.cfg.NodeName)
	}
	manifest.RefuseChanges(docs, f.Content)
	f.problems = manifest.Problems(docs, pods.SourceFile, path)
	whole := len(docs) > 0 && !slices.ContainsFunc(docs, manifest.Document.Failed)
	if len(docs) == 0 {
		f.problems = []manifest.Problem{{Source: pods.SourceFile, File: path, Message: "holds no document; remove the file to stop its pods"}}
	}
	f.Content = manifest.KeepFailed(f.Content, docs, s.cfg.NodeName)
	s.store.keep(path, f.Content, whole)
	s.note(path, "read", f, s.cfg.Clock.Since(begun))
	klog.V(2).InfoS("Manifest read", "file", path, "pods", len(f.Pods), "objects", len(f.Objects), "problems", len(f.problems))
	return true
}

// merge combines what the files give, those that came first before others, and by name. Of two pods
// with a common name or UID, and of two objects with one name, the first is wanted, and the other
// is a problem: the copy of a manifest takes nothing from what runs.
func (s *FileSource) merge() (manifest.Content, []manifest.Problem) {
	paths := make([]string, 0, len(s.files))
	for p := range s.files {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int {
		return cmp.Or(cmp.Compare(s.files[a].arrived, s.files[b].arrived), strings.Compare(a, b))
	})
	var all manifest.Content
	var problems []manifest.Problem
	taken := manifest.NewTaken()
	add := func(path string, f *file, report bool) {
		clashes := taken.AddAll(&all, f.Content, path)
		if report {
			for _, clash := range clashes {
				clash.Source, clash.File = pods.SourceFile, path
				problems = append(problems, clash)
			}
		}
	}
	for _, p := range paths {
		if f := s.files[p]; f.gone.IsZero() {
			problems = append(problems, f.problems...)
			add(p, f, true)
		}
	}
	// A file that has just gone may have been renamed: then the new name counts.
	for _, p := range paths {
		if f := s.files[p]; !f.gone.IsZero() {
			add(p, f, false)
		}
	}
	return all, problems
}

// sooner returns the shorter of two waits, where 0 means none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
