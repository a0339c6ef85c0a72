package podaccess

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

func entry(text string) string { return "2026-01-02T03:04:09.000000000Z stdout F " + text + "\n" }

// Each case is what happens to a log whenever its follower asks if the container is
// running, which is when it has read everything so far; after the last step the
// container has ended.
func TestWhatHappensToAFollowedLog(t *testing.T) {
	add := func(text string) func(*testing.T, string) {
		return func(t *testing.T, path string) { appendTo(t, path, text) }
	}
	rename := func(t *testing.T, path string) {
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(*testing.T, string) {}
	long := strings.Repeat("x", 3*pieceSize)
	tests := []struct {
		name  string
		steps []func(t *testing.T, path string)
		want  string // after the three lines
	}{
		{"nothing", []func(*testing.T, string){nothing}, ""},
		{"more comes with its end", []func(*testing.T, string){add(entry("four"))}, "four\n"},
		{"a line in two writes", []func(*testing.T, string){add(entry("four")[:20]), add(entry("four")[20:] + entry("five"))}, "four\nfive\n"},
		{"a long line in two writes", []func(*testing.T, string){add(strings.TrimSuffix(entry(long), "\n")), add("y\n")}, long + "y\n"},
		{"the last line is unfinished", []func(*testing.T, string){add(entry("four") + "2026-01-02T03:04:09Z stdout F fi")}, "four\n"},
		{"rotated", []func(*testing.T, string){func(t *testing.T, path string) {
			rename(t, path)
			appendTo(t, path+".old", entry("four"))
			appendTo(t, path, entry("five"))
		}, add(entry("six"))}, "four\nfive\nsix\n"},
		{"rotated twice before its end", []func(*testing.T, string){func(t *testing.T, path string) {
			rename(t, path)
			appendTo(t, path, entry("lost"))
			rename(t, path)
			appendTo(t, path, entry("five"))
		}}, "five\n"},
		{"rotated in the middle of a long line", []func(*testing.T, string){add(strings.TrimSuffix(entry(long), "\n")), func(t *testing.T, path string) {
			rename(t, path)
			appendTo(t, path, entry("five"))
		}}, long[len(entry(""))-1:] + "five\n"},
		{"away for a moment", []func(*testing.T, string){rename, func(t *testing.T, path string) {
			appendTo(t, path+".old", entry("four"))
		}, add(entry("five"))}, "four\nfive\n"},
		{"removed", []func(*testing.T, string){func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, nothing}, ""},
		{"removed with its directory", []func(*testing.T, string){func(t *testing.T, path string) {
			if err := os.RemoveAll(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}, nothing}, ""},
		{"truncated", []func(*testing.T, string){func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(entry("four")), 0o644); err != nil {
				t.Fatal(err)
			}
		}}, "four\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, path := withLog(t)
			log, err := openLog(path, new(atomic.Int32))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { log.close() }()
			var out bytes.Buffer
			steps := tt.steps
			err = log.write(t.Context(), &v1.PodLogOptions{Follow: true}, time.Time{}, func(context.Context) (bool, error) {
				steps[0](t, path)
				steps = steps[1:]
				return len(steps) > 0, nil
			}, &out, &out)
			if want := "one\ntwo\nthree\n" + tt.want; err != nil || out.String() != want || len(steps) > 0 {
				t.Errorf("%.100q of %d bytes, %v, want %.100q of %d; %d steps left", out.String(), out.Len(), err, want, len(want), len(steps))
			}
		})
	}
}

func TestFollowedLogIsReplacedByNone(t *testing.T) {
	var log *logFile
	place := func(t *testing.T) string {
		_, _, path := withLog(t)
		var err error
		if log, err = openLog(path, new(atomic.Int32)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	safefiletest.Each(t, place, func(t *testing.T, what, path string) {
		defer func() { log.close() }()
		var out bytes.Buffer
		err := log.write(t.Context(), &v1.PodLogOptions{Follow: true}, time.Time{}, func(context.Context) (bool, error) { return false, nil }, &out, &out)
		// Another file that can be read has no lines of a log.
		ends := what == safefiletest.Removed || what == safefiletest.HardLink
		if out.String() != "one\ntwo\nthree\n" || (err == nil) != ends {
			t.Errorf("%q, %v", out.String(), err)
		}
	})
}

func TestChangesAreToldOrLookedFor(t *testing.T) {
	_, _, path := withLog(t)
	var watched atomic.Int32
	c := watch(path, &watched)
	defer c.close()
	appendTo(t, path, entry("four"))
	select {
	case e := <-c.events:
		if filepath.Base(e.Name) != "0.log" {
			t.Error(e)
		}
	case <-time.After(2 * time.Minute):
		t.Error("no event")
	}

	none := watch(filepath.Join(t.TempDir(), "missing", "0.log"), &watched) // as without an inotify instance
	defer none.close()
	if none.watcher != nil {
		t.Error("something is watched")
	}
	if n := watched.Load(); n != 1 {
		t.Errorf("%d logs count as watched", n)
	}
	watched.Store(maxWatched)
	if many := watch(path, &watched); many.watcher != nil || watched.Load() != maxWatched {
		t.Errorf("one more is watched than may be")
	}
	if err := none.wait(t.Context(), lookEvery); err != nil {
		t.Errorf("after a second: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := none.wait(ctx, lookEvery); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
