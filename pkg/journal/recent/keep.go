package recent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// The file has one v1.Event a line, as the API has it; of lines about equal events the last one counts. Each new event is
// a line at once. One that comes again is a line only when its count has grown by an eighth or its last line is an hour
// old, so that a crash loop of a week is some two hundred lines, and a count is at most an eighth short after a SIGKILL; an
// agent that ends by itself writes all counts. Lines are not synced: a SIGKILL loses nothing that was written, since
// the kernel has it, while a flush of the disk for each event would slow down, and on a memory card wear, what pods need.
// A crash of the machine may cost the last half minute.
//
// When the file is full, or had damaged lines, it is written anew from memory: the newest events, to at most half of it.

const (
	// maxAnew is how many bytes a file has that is written anew.
	maxAnew = maxFile / 2
	// stale is how old a line may be about an event that still comes.
	stale = time.Hour
	// retry is how long a disk that has failed is left alone.
	retry = 10 * time.Second
	// The largest version and count that a line may say: what is counted from there on overflows nothing.
	maxVersion = 1 << 53
	maxCount   = 1 << 30
)

// onDisk is what is known of an event's last line.
type onDisk struct {
	count int32 // 0: there is none
	last  time.Time
}

// due reports whether an event is worth a line.
func due(count int32, last time.Time, kept onDisk) bool {
	return count != kept.count && (count-kept.count >= max(1, kept.count/8) || last.Sub(kept.last) >= stale)
}

// Run writes events to disk until ctx ends, and then what is not written yet. Without a file it does nothing. An error of the
// disk is logged and the writing tried again; it ends nothing.
func (s *Sink) Run(ctx context.Context) error {
	if s.disk == nil {
		return nil
	}
	w := writer{sink: s}
	for seen := int64(0); ctx.Err() == nil && s.Wait(ctx, seen) == nil; {
		newest := s.newest()
		if w.write(false) {
			seen = newest
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
	w.write(true)
	return nil
}

// writer is what Run remembers.
type writer struct {
	sink    *Sink
	failing logonce.Error
	failed  bool
}

// write writes what is due, or all that differs from what is written, and reports whether it could.
func (w *writer) write(all bool) bool {
	err := w.sink.save(all)
	if w.failing.Note(err) {
		klog.ErrorS(err, "Could not write events to disk; trying again. They are remembered until the agent ends", "file", w.sink.cfg.File)
	}
	if err == nil && w.failed {
		klog.InfoS("Events are written to disk again", "file", w.sink.cfg.File, "neverWritten", w.sink.takeDropped())
	}
	w.failed = err != nil
	return err == nil
}

// line is an event as it is written.
type line struct {
	of    *remembered
	event v1.Event
	last  time.Time
}

// lines returns the events that want says, the oldest first.
func (s *Sink) lines(want func(*remembered) bool) (list []line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := s.order.Front(); at != nil; at = at.Next() {
		if e := at.Value.(*remembered); want(e) {
			list = append(list, line{e, s.event(e), e.last})
		}
	}
	return list
}

// written notes that these lines are on disk, or older than what is kept there.
func (s *Sink) written(list []line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range list {
		l.of.kept = onDisk{l.event.Count, l.last}
	}
}

func (s *Sink) newest() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

func (s *Sink) takeDropped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.dropped
	s.dropped = 0
	return n
}

func (s *Sink) save(all bool) error {
	list := s.lines(func(e *remembered) bool {
		return due(e.count, e.last, e.kept) || all && e.count != e.kept.count
	})
	if len(list) == 0 {
		return nil
	}
	if s.torn {
		return s.anew()
	}
	text, err := encode(list)
	if err != nil {
		return err
	}
	full, err := s.disk.append(text)
	if err != nil {
		return err
	}
	if full {
		return s.anew()
	}
	s.written(list)
	return nil
}

// anew writes the file from memory.
func (s *Sink) anew() error {
	list := s.lines(func(*remembered) bool { return true })
	size, from := 0, len(list)
	var texts [][]byte
	for from > 0 {
		text, err := encode(list[from-1 : from])
		if err != nil {
			return err
		}
		if size += len(text); size > maxAnew {
			break
		}
		texts = append(texts, text)
		from--
	}
	slices.Reverse(texts)
	if err := s.disk.replace(bytes.Join(texts, nil)); err != nil {
		return err
	}
	s.written(list)
	s.torn = false
	return nil
}

func encode(list []line) ([]byte, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	for _, l := range list {
		if err := out.Encode(&l.event); err != nil {
			return nil, fmt.Errorf("encode an event: %w", err)
		}
	}
	return text.Bytes(), nil
}

// load takes in what the agent before this one has kept. Nothing of it is trusted: lines that are no events are left out.
func (s *Sink) load() {
	text, err := s.disk.read()
	newest, damaged := map[key]*remembered{}, 0
	for l := range bytes.Lines(text) {
		l = bytes.TrimSpace(l)
		if len(l) == 0 {
			continue
		}
		e, err := decode(l)
		if err != nil {
			damaged++
			continue
		}
		if old := newest[e.key]; old == nil || old.version <= e.version {
			newest[e.key] = e
		}
	}
	logRead(s.cfg.File, damaged, err)
	s.torn = err == nil && damaged > 0
	for _, e := range slices.SortedFunc(maps.Values(newest), func(a, b *remembered) int {
		return cmp.Or(cmp.Compare(a.version, b.version), a.last.Compare(b.last), cmp.Compare(a.name, b.name))
	}) {
		s.version = e.version
		s.add(e)
	}
}

func decode(text []byte) (*remembered, error) {
	var e v1.Event
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, err
	}
	version, err := strconv.ParseInt(e.ResourceVersion, 10, 64)
	if err != nil || version < 1 || version > maxVersion {
		return nil, fmt.Errorf("version %.30q", e.ResourceVersion)
	}
	if e.Name == "" || e.InvolvedObject.Kind == "" || e.Count < 1 || e.Count > maxCount || e.FirstTimestamp.IsZero() || e.LastTimestamp.IsZero() {
		return nil, errors.New("it is no event")
	}
	last := e.LastTimestamp.UTC()
	return &remembered{
		key:  key{e.InvolvedObject, e.Type, e.Reason, bounds.Cut(e.Message, journal.MaxText)},
		name: e.Name, first: e.FirstTimestamp.UTC(), last: last, count: e.Count, version: version, kept: onDisk{e.Count, last},
	}, nil
}
