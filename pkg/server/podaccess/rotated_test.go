package podaccess

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// rotate gives the log the next name, and has the one before that compressed.
type rotation struct {
	path string
	n    int
}

func (r *rotation) name(n int) string {
	return r.path + "." + time.Date(2026, 1, 2, 3, 4, n, 0, time.UTC).Format(pods.LogTimeLayout)
}

func (r *rotation) rename(t *testing.T) {
	r.n++
	if err := os.Rename(r.path, r.name(r.n)); err != nil {
		t.Error(err)
	}
}

func (r *rotation) compress(t *testing.T, n int) {
	b, err := os.ReadFile(r.name(n))
	if err != nil {
		t.Error(err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(b)
	_ = w.Close()
	temp := r.name(n) + pods.UnfinishedLog
	if err := os.WriteFile(temp, packed.Bytes(), 0o640); err != nil {
		t.Error(err)
	}
	if err := os.Rename(temp, r.name(n)+pods.CompressedLog); err != nil {
		t.Error(err)
	}
	if err := os.Remove(r.name(n)); err != nil {
		t.Error(err)
	}
}

// What becomes of the log between two reads of a follower, which has then to go on with the
// right file.
func TestFollowedLogIsRotatedSeveralTimes(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(t *testing.T, r *rotation)
		want string
		// then, if any, follows once that was seen.
		then func(t *testing.T, r *rotation)
	}{
		"once": {func(t *testing.T, r *rotation) {
			appendTo(t, r.path, entry("four"))
			r.rename(t)
			appendTo(t, r.path, entry("five"))
		}, "four five", nil},
		"not reopened yet": {func(t *testing.T, r *rotation) {
			r.rename(t)
			appendTo(t, r.name(1), entry("four"))
		}, "four", nil},
		"the new one is empty": {func(t *testing.T, r *rotation) {
			r.rename(t)
			appendTo(t, r.path, "")
			appendTo(t, r.name(1), entry("four"))
		}, "four", nil},
		"twice": {func(t *testing.T, r *rotation) {
			appendTo(t, r.path, entry("four"))
			r.rename(t)
			appendTo(t, r.path, entry("five"))
			r.rename(t)
			appendTo(t, r.path, entry("six"))
		}, "four five six", nil},
		"twice, and compressed": {func(t *testing.T, r *rotation) {
			appendTo(t, r.path, entry("four"))
			r.rename(t)
			appendTo(t, r.path, entry("five"))
			r.rename(t)
			r.compress(t, 1)
			appendTo(t, r.path, entry("six"))
		}, "four five six", nil},
		"several times, and compressed": {func(t *testing.T, r *rotation) {
			for _, text := range []string{"four", "five", "six", "seven"} {
				appendTo(t, r.path, entry(text))
				r.rename(t)
				if r.n > 1 {
					r.compress(t, r.n-1)
				}
			}
			appendTo(t, r.path, entry("eight"))
		}, "four five six seven eight", nil},
		"in vain, and then again": {func(t *testing.T, r *rotation) { r.rename(t) }, "four five six", func(t *testing.T, r *rotation) {
			if err := os.Rename(r.name(1), r.path); err != nil {
				t.Error(err)
			}
			appendTo(t, r.path, entry("four"))
			time.Sleep(100 * time.Millisecond) // it may be seen or not
			r.rename(t)
			appendTo(t, r.path, entry("five"))
			r.rename(t)
			appendTo(t, r.path, entry("six"))
		}},
		"compressed with the beginning of a line": {func(t *testing.T, r *rotation) {
			appendTo(t, r.path, entry("four"))
			r.rename(t)
			appendTo(t, r.path, entry("five")+entry("torn")[:20])
			r.rename(t)
			r.compress(t, 2)
			appendTo(t, r.path, entry("six"))
		}, "four five six", nil},
		"and its own is removed": {func(t *testing.T, r *rotation) {
			for _, text := range []string{"four", "five", "six"} {
				appendTo(t, r.path, entry(text))
				r.rename(t)
			}
			if err := os.Remove(r.name(1)); err != nil {
				t.Error(err)
			}
			appendTo(t, r.path, entry("seven"))
		}, "four five six seven", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, path := withLog(t)
			r := &rotation{path: path}
			// There are older ones, which are not its.
			for _, n := range []int{-2, -1} {
				appendTo(t, r.name(n), entry("old"))
			}
			r.compress(t, -2)
			log, err := openLog(path, new(atomic.Int32))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { log.close() }()
			calls := 0
			var out bytes.Buffer
			err = log.write(t.Context(), &v1.PodLogOptions{Follow: true}, time.Time{}, func(context.Context) (bool, error) {
				switch calls++; {
				case calls == 1:
					tc.do(t, r)
				case calls == 2 && tc.then != nil:
					tc.then(t, r)
				}
				return calls == 1 && tc.then != nil, nil
			}, &out, &out)
			if got := strings.Join(strings.Fields(out.String()), " "); err != nil || got != "one two three "+tc.want {
				t.Errorf("%q, %v, want %q", got, err, "one two three "+tc.want)
			}
		})
	}
}

// What others put beside a log hinders nobody who follows it.
func TestFollowedLogWithForeignFilesBesideIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	appendTo(t, path, entry("one"))
	log, err := openLog(path, new(atomic.Int32))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { log.close() }()
	r := &rotation{path: path}
	for _, at := range []string{"20200101-000000", "20260102-030402", "20990101-000000"} {
		if err := os.WriteFile(path+"."+at+pods.CompressedLog, []byte("no log"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // to 20260102-030401 and, past the second of these files, 20260102-030403
		r.rename(t)
		appendTo(t, path, entry("next"))
		r.n++
	}
	var out bytes.Buffer
	err = log.write(t.Context(), &v1.PodLogOptions{Follow: true}, time.Time{}, func(context.Context) (bool, error) { return false, nil }, &out, &out)
	if got := strings.Join(strings.Fields(out.String()), " "); err != nil || got != "one next next" {
		t.Errorf("%q, %v", got, err)
	}
}

// A client that reads slowly misses no line of a container that writes fast.
func TestSlowFollowerMissesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	const lines = 20000
	appendTo(t, path, entry("0"))
	log, err := openLog(path, new(atomic.Int32))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { log.close() }()
	var ended atomic.Bool
	go func() {
		defer ended.Store(true)
		r := &rotation{path: path}
		for n := 1; n < lines; {
			var b strings.Builder
			for range 500 {
				if n < lines {
					fmt.Fprintf(&b, "%s stdout F %d\n", time.Date(2026, 1, 2, 3, 4, 5, n, time.UTC).Format(time.RFC3339Nano), n)
					n++
				}
			}
			appendTo(t, path, b.String())
			r.rename(t)
			if r.n > 1 {
				r.compress(t, r.n-1)
			}
			time.Sleep(time.Millisecond)
		}
		appendTo(t, path, "")
	}()
	slow := &slowWriter{}
	err = log.write(t.Context(), &v1.PodLogOptions{Follow: true}, time.Time{}, func(context.Context) (bool, error) { return !ended.Load(), nil }, slow, slow)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(slow.String())
	for i, n := range got {
		if n != fmt.Sprint(i) {
			t.Fatalf("line %d is %s", i, n)
		}
	}
	if len(got) != lines {
		t.Errorf("%d lines of %d", len(got), lines)
	}
}

type slowWriter struct {
	bytes.Buffer
	n int
}

func (s *slowWriter) Write(b []byte) (int, error) {
	if s.n++; s.n%1000 == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	return s.Buffer.Write(b)
}

// Between its renaming and its reopening a log is away.
func TestLogIsReadWhileItIsRotated(t *testing.T) {
	// A busy machine may let the second for that pass before the log is back, but not each time.
	for try := 1; ; try++ {
		a, _, path := withLog(t)
		away := path + ".away"
		if err := os.Rename(path, away); err != nil {
			t.Fatal(err)
		}
		var back sync.WaitGroup
		over := make(chan struct{})
		back.Go(func() {
			for a.watched.Load() == 0 {
				select {
				case <-over:
					return
				case <-time.After(time.Millisecond):
				}
			}
			_ = os.Rename(away, path)
		})
		var out bytes.Buffer
		err := a.Logs(t.Context(), named("web"), &v1.PodLogOptions{Container: "c"}, &out, &out)
		close(over)
		back.Wait()
		if err == nil && out.String() == "one\ntwo\nthree\n" {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) || try == 20 {
			t.Fatalf("try %d: %q, %v", try, out.String(), err)
		}
	}
}
