package podaccess

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	criservice "k8s.io/cri-api/pkg/apis"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

func TestParseHeader(t *testing.T) {
	stamp := time.Date(2026, 1, 2, 3, 4, 5, 6000000, time.UTC)
	tests := []struct {
		name, line string
		want       header
		text       string
		ok         bool
	}{
		{"a line", "2026-01-02T03:04:05.006Z stdout F a b\n", header{stamp, cri.Stdout, false}, "a b\n", true},
		{"a partial one", "2026-01-02T03:04:05.006Z stderr P a\n", header{stamp, cri.Stderr, true}, "a\n", true},
		{"more tags", "2026-01-02T03:04:05.006Z stderr P:x a\n", header{stamp, cri.Stderr, true}, "a\n", true},
		{"a tag of tomorrow", "2026-01-02T03:04:05.006Z stderr Q a\n", header{stamp, cri.Stderr, false}, "a\n", true},
		{"empty", "2026-01-02T03:04:05.006Z stdout F \n", header{stamp, cri.Stdout, false}, "\n", true},
		{"nothing after the tag", "2026-01-02T03:04:05.006Z stdout F\n", header{}, "", false},
		{"another stream", "2026-01-02T03:04:05.006Z stdin F a\n", header{}, "", false},
		{"no time", "2026-01-02 stdout F a\n", header{}, "", false},
		{"two spaces", "2026-01-02T03:04:05.006Z  stdout F a\n", header{}, "", false},
		{"Docker's form", `{"log":"a b c d\n","stream":"stdout","time":"2026-01-02T03:04:05.006Z"}`, header{}, "", false},
		{"nothing", "", header{}, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, text, ok := parseHeader([]byte(tt.line))
			if ok != tt.ok || string(text) != tt.text || !h.time.Equal(tt.want.time) || h.stream != tt.want.stream || h.partial != tt.want.partial {
				t.Errorf("%+v %q %v", h, text, ok)
			}
		})
	}
}

func TestTailStart(t *testing.T) {
	block := strings.Repeat("x", pieceSize-1) + "\n"
	tests := []struct {
		name, log string
		n, want   int64
		err       error
	}{
		{"empty", "", 1, 0, nil},
		{"none of it", "a\nb\n", 0, 4, nil},
		{"the last", "a\nb\n", 1, 2, nil},
		{"all", "a\nb\n", 2, 0, nil},
		{"more than all", "a\nb\n", math.MaxInt64, 0, nil},
		{"an unfinished line is not counted", "a\nb\nc", 1, 2, nil},
		{"only an unfinished line", "a", 0, 0, nil},
		{"empty lines", "\n\n\n", 2, 1, nil},
		{"a line of a block", block + block, 1, pieceSize, nil},
		{"a line over blocks", "a\n" + strings.Repeat(block[1:], 2) + block, 2, 2 + pieceSize - 1, nil},
		{"the longest line", "a\n" + strings.Repeat("x", maxLine-1) + "\n", 1, 2, nil},
		{"no end of a line", "a\n" + strings.Repeat("x", maxLine+pieceSize), 1, 0, errDamaged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tailStart(t.Context(), strings.NewReader(tt.log), int64(len(tt.log)), tt.n)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%d, %v, want %d", got, err, tt.want)
			}
		})
	}
	// Truncated after its size was read.
	if _, err := tailStart(t.Context(), strings.NewReader("a\n"), 3*pieceSize, 5); err != nil {
		t.Error(err)
	}
}

func TestLongLines(t *testing.T) {
	const begin = "2026-01-02T03:04:05.000000000Z stdout F "
	after := begin + "after\n"
	tests := []struct {
		name, log, want string
		err             error
	}{
		{"in pieces", begin + strings.Repeat("x", 3*pieceSize) + "\n" + after, strings.Repeat("x", 3*pieceSize) + "\nafter\n", nil},
		{"too long", begin + strings.Repeat("x", 2*maxLine), strings.Repeat("x", maxLine-len(begin)), errDamaged},
		{"one that is none is left out", after + strings.Repeat("x", 3*pieceSize) + after + after, "after\nafter\n", nil},
		{"too long and none", after + strings.Repeat("\x00", 2*maxLine) + after, "after\n", errDamaged},
		{"the first is none", strings.Repeat("\x00", 3*pieceSize) + after, "", errNoLog},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			err := newLogReader(&v1.PodLogOptions{}, time.Time{}, &out, &out).read(t.Context(), strings.NewReader(tt.log))
			if out.String() != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%.80q of %d bytes, want %d, %v", out.String(), out.Len(), len(tt.want), err)
			}
		})
	}
}

// endless is an endless log, whose reader's client leaves after a few reads.
type endless struct {
	line  string
	leave context.CancelFunc
	reads int
}

func (e *endless) ReadAt(p []byte, off int64) (int, error) {
	if e.reads++; e.reads == 5 {
		e.leave()
	}
	for i := range p {
		p[i] = e.line[(off+int64(i))%int64(len(e.line))]
	}
	return len(p), nil
}

func TestReadingEndsWithItsClient(t *testing.T) {
	long := "2026-01-02T03:04:05Z stdout F " + strings.Repeat("x", 3*pieceSize) + "\n"
	for name, o := range map[string]v1.PodLogOptions{
		"reading":  {},
		"skipping": {SinceTime: &metav1.Time{Time: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			e := &endless{line: long, leave: leave}
			err := newLogReader(&o, time.Time{}, io.Discard, nil).read(ctx, e)
			if !errors.Is(err, context.Canceled) || e.reads > 5 {
				t.Errorf("%v after %d reads", err, e.reads)
			}
		})
	}
	ctx, leave := context.WithCancel(t.Context())
	e := &endless{line: "\n", leave: leave}
	if _, err := tailStart(ctx, e, math.MaxInt64, math.MaxInt64); !errors.Is(err, context.Canceled) || e.reads > 5 {
		t.Errorf("tail: %v after %d reads", err, e.reads)
	}
}

type short struct{}

func (short) Write(p []byte) (int, error) { return len(p) / 2, nil }

func TestShortWrite(t *testing.T) {
	if err := newLogReader(&v1.PodLogOptions{}, time.Time{}, short{}, short{}).read(t.Context(), strings.NewReader(lines)); !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
}

// over is the runtime service that the kubelet's library asks about a container that
// has ended.
type over struct{ criservice.RuntimeService }

func (over) ContainerStatus(context.Context, string, bool) (*cri.ContainerStatusResponse, error) {
	return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{State: exited}}, nil
}

var logBegan = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// randomLog has a few lines, a second apart, some of them invalid.
func randomLog(r *rand.Rand) string {
	var log strings.Builder
	garbage := []string{"\n", "garbage\n", "a b c d\n", "2026-01-02T03:04:05Z stdin F x\n", "2026-01-02T03:04:05Z stdout F\n", "\x00\x00\n"}
	zones := []*time.Location{time.UTC, time.FixedZone("", 3600), time.FixedZone("", -9000)}
	for i := range r.IntN(12) {
		if r.IntN(8) == 0 {
			log.WriteString(garbage[r.IntN(len(garbage))])
			continue
		}
		size := r.IntN(10)
		if r.IntN(20) == 0 {
			size = pieceSize - 60 + r.IntN(120)
		} else if r.IntN(20) == 0 {
			size = r.IntN(4 * pieceSize)
		}
		at := logBegan.Add(time.Duration(i)*time.Second + time.Duration(r.IntN(1000000000))/time.Duration(1+r.IntN(5)))
		fmt.Fprintf(&log, "%s %s %s %s\n", at.In(zones[r.IntN(3)]).Format(time.RFC3339Nano), []string{"stdout", "stderr"}[r.IntN(2)],
			[]string{"F", "F", "P", "P:x", "F:y"}[r.IntN(5)], strings.Repeat("x y", size)[:size])
	}
	text := log.String()
	if len(text) > 0 && r.IntN(3) == 0 {
		text = text[:len(text)-1-r.IntN(min(50, len(text)))]
	}
	if len(text)-strings.LastIndexByte(text, '\n') > pieceSize { // followers get the part that is there
		text += "\n"
	}
	return text
}

func randomOptions(r *rand.Rand) *v1.PodLogOptions {
	o := &v1.PodLogOptions{Follow: r.IntN(3) == 0, Timestamps: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		o.TailLines = ptr.To(r.Int64N(8))
	}
	if r.IntN(2) == 0 {
		o.LimitBytes = ptr.To([]int64{0, 1, 7, 30, 100, pieceSize, 1 << 30}[r.IntN(7)])
	}
	if r.IntN(2) == 0 {
		o.SinceTime = &metav1.Time{Time: logBegan.Add(time.Duration(r.Int64N(int64(12 * time.Second))))}
	}
	return o
}

// What is written is what the kubelet would write.
func TestReadsLogsAsTheKubeletDoes(t *testing.T) {
	ctx := klog.NewContext(t.Context(), klog.Logger{})
	path := filepath.Join(t.TempDir(), "0.log")
	failed, written := 0, 0
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		text := randomLog(r)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		o := randomOptions(r)
		streams := r.IntN(4)
		read := func(read func(stdout, stderr io.Writer) error) (string, error) {
			var out, errout bytes.Buffer
			var err error
			switch streams {
			case 0:
				err = read(&out, nil)
			case 1:
				err = read(nil, &errout)
			case 2:
				err = read(&out, &out)
			case 3:
				err = read(&out, &errout)
			}
			return out.String() + "|" + errout.String(), err
		}
		want, wantErr := read(func(stdout, stderr io.Writer) error {
			lo := &logs.LogOptions{TailLines: o.TailLines, LimitBytes: o.LimitBytes, Follow: o.Follow, Timestamp: o.Timestamps, Since: since(o, time.Time{})}
			return logs.ReadLogs(ctx, path, "id", lo, over{}, stdout, stderr)
		})
		got, err := read(func(stdout, stderr io.Writer) error {
			log, err := openLog(path, new(atomic.Int32))
			if err != nil {
				return err
			}
			defer log.close()
			ended := func(context.Context) (bool, error) { return false, nil }
			return log.write(t.Context(), o, time.Time{}, ended, stdout, stderr)
		})
		if got != want || (err == nil) != (wantErr == nil) {
			t.Errorf("seed %d, streams %d, options %v: %.300q, %v\nthe kubelet: %.300q, %v\nof %.1000q", seed, streams, o, got, err, want, wantErr, text)
		}
		if wantErr != nil {
			failed++
		}
		if len(want) > 1 {
			written++
		}
	}
	if failed < 20 || written < 150 {
		t.Errorf("only %d logs failed, and of %d something was written", failed, written)
	}
}
