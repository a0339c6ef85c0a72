package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// goneFor is how long a file must be gone before its pods are: editors replace a
// file by moving the old one away before they write the new one.
const goneFor = 50 * time.Millisecond

// firstWait bounds how long the first snapshot waits for files that are being
// written: without their pods it would have these taken down.
const firstWait = 3 * time.Second

// file is what is known of one manifest.
type file struct {
	reading
	pods     []*v1.Pod // wanted now: of the last read, or kept from before it
	problems []Problem
	gone     time.Time // when it was first found missing; zero while it is there
}

// look reads what has changed. It returns a snapshot if another one is wanted than
// before, and after how long to look again although nothing happens: 0 for never.
func (s *FileSource) look() (_ *Snapshot, again time.Duration) {
	now := s.cfg.Clock.Now()
	paths, links, whole, complete := s.list()
	changed := false
	for _, p := range paths {
		f := s.files[p]
		if f == nil {
			f = &file{}
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
			continue // its directory cannot be read: nothing says that it is gone
		}
		if f.gone.IsZero() {
			f.gone = now
			changed = true
		}
		if left := f.gone.Add(goneFor).Sub(now); left > 0 {
			again = sooner(again, left)
			continue
		}
		klog.V(2).InfoS("Manifest removed", "file", p, "pods", len(f.pods))
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
	pods, problems := s.merge()
	for i := range whole {
		whole[i].Source = File
	}
	s.mu.Lock()
	s.problems.set(append(whole, problems...))
	s.mu.Unlock()
	if s.spoken && !changed {
		return nil, again
	}
	if !s.spoken && !complete && !errors.Is(s.missing(), fs.ErrNotExist) {
		return nil, again // unreadable, not missing: what is wanted is not known
	}
	if !s.spoken && complete {
		s.store.prune(paths)
	}
	s.spoken = true
	return &Snapshot{Source: File, Pods: pods}, again
}

func (s *FileSource) missing() error {
	_, err := os.Stat(s.cfg.Path)
	return err
}

// list finds the manifests, in order; those that are symbolic links; what is wrong
// with the path or its entries as such; and whether the listing is complete, so
// that a file that is not in it does not exist.
func (s *FileSource) list() (paths, links []string, problems []Problem, complete bool) {
	path := s.cfg.Path
	problem := func(p, message string) { problems = append(problems, Problem{File: p, Message: message}) }
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		problem(path, "does not exist")
		// A single file that is gone from its directory has been removed.
		_, single := s.files[path]
		_, err := os.Stat(filepath.Dir(path))
		return nil, nil, problems, single && err == nil
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

// read takes in a file that has changed. It reports whether other pods may be
// wanted from it than before.
func (s *FileSource) read(path string, f *file, now time.Time) (changed bool) {
	first := !f.read
	data, err := f.reading.next(path, now)
	switch {
	case err != nil:
		f.problems = []Problem{{Source: File, File: path, Message: err.Error()}}
		if first {
			f.pods = s.kept(path)
		}
		return first && len(f.pods) > 0
	case data == nil:
		return false
	}
	from := s.origin
	from.from = path
	docs := from.static(decode(data))
	f.problems = nil
	failed := len(docs) == 0
	for _, d := range docs {
		failed = failed || d.pod == nil
		for _, p := range d.problems {
			p.Source, p.File = File, path
			f.problems = append(f.problems, p)
		}
	}
	if len(docs) == 0 {
		f.problems = []Problem{{Source: File, File: path, Message: "holds no document; remove the file to stop its pods"}}
	}
	if failed && first {
		f.pods = s.kept(path)
	}
	f.pods = keepFailed(f.pods, docs, s.cfg.NodeName)
	if !failed {
		s.store.keep(path, data)
	}
	klog.V(2).InfoS("Manifest read", "file", path, "pods", len(f.pods), "problems", len(f.problems))
	return true
}

// kept returns the pods that a file gave when it was last good, before this agent
// started.
func (s *FileSource) kept(path string) []*v1.Pod {
	data := s.store.load(path)
	if data == nil {
		return nil
	}
	from := s.origin
	from.from = path
	return keepFailed(nil, from.static(decode(data)), s.cfg.NodeName)
}

// keepFailed returns the pods of the documents and, of the pods from before, those
// whose document has failed now: the one of the same name, or, where a document is
// so broken that no name can be read, any that is missing.
func keepFailed(before []*v1.Pod, docs []written, node string) []*v1.Pod {
	var pods []*v1.Pod
	present, failed := map[types.NamespacedName]bool{}, map[types.NamespacedName]bool{}
	unnamed := len(docs) == 0
	for _, d := range docs {
		switch {
		case d.pod != nil:
			pods = append(pods, d.pod)
			present[nameOf(d.pod)] = true
		case d.name.Name == "":
			unnamed = true
		default:
			failed[types.NamespacedName{Namespace: d.name.Namespace, Name: nameOnNode(d.name.Name, node)}] = true
		}
	}
	for _, p := range before {
		if n := nameOf(p); !present[n] && (unnamed || failed[n]) {
			pods = append(pods, p)
		}
	}
	return pods
}

// merge puts the files' pods together, in the order of the files. Of two that have
// a name or UID in common the first is wanted, and the other is a problem.
func (s *FileSource) merge() ([]*v1.Pod, []Problem) {
	paths := make([]string, 0, len(s.files))
	for p := range s.files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	pods := []*v1.Pod{}
	var problems []Problem
	taken := newTaken()
	add := func(path string, f *file, report bool) {
		for _, pod := range f.pods {
			if clash := taken.add(pod, path); clash != "" {
				if report {
					problems = append(problems, Problem{Source: File, File: path, Message: clash})
				}
				continue
			}
			pods = append(pods, pod)
		}
	}
	for _, p := range paths {
		if f := s.files[p]; f.gone.IsZero() {
			problems = append(problems, f.problems...)
			add(p, f, true)
		}
	}
	// A file that has just gone may have been moved to another's name: that one counts.
	for _, p := range paths {
		if f := s.files[p]; !f.gone.IsZero() {
			add(p, f, false)
		}
	}
	return pods, problems
}

func nameOf(pod *v1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}

// sooner returns the shorter of two waits, of which 0 means none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
