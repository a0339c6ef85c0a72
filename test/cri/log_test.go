package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

var logCases = []testCase{
	{name: "log lines are in CRI's form, at the path given", run: func(t *testing.T, r *runtime) {
		p := r.pod("echo out; echo err >&2; echo -n rest")
		r.exited(p.ctr)
		got := map[string]string{}
		for _, l := range r.logged(filepath.Join(p.sandbox.LogDirectory, "c/0.log"), func(all []line) bool { return len(all) == 3 }) {
			got[l.text] = l.stream + " " + l.tag
		}
		if got["out"] != "stdout F" || got["err"] != "stderr F" || got["rest"] == "" || len(got) != 3 {
			t.Errorf("log %v", got)
		}
	}},
	{name: "long lines are split and marked", run: func(t *testing.T, r *runtime) {
		p := r.pod("head -c 40000 /dev/zero | tr '\\0' x; echo; echo end")
		r.exited(p.ctr)
		length := 0
		lines := r.logged(filepath.Join(p.sandbox.LogDirectory, "c/0.log"), func(all []line) bool { return len(all) > 0 && all[len(all)-1].text == "end" })
		if len(lines) < 4 {
			t.Fatalf("%d lines, want three for the long one and the end", len(lines))
		}
		for _, l := range lines[:len(lines)-1] {
			if len(l.text) > 16384 {
				t.Errorf("a piece of %d bytes", len(l.text))
			}
			length += len(l.text)
		}
		last := lines[len(lines)-2]
		if length != 40000 || lines[0].tag != "P" || last.tag != "F" || lines[len(lines)-1].text != "end" {
			t.Errorf("%d bytes in %d lines, first %s, last %s", length, len(lines), lines[0].tag, last.tag)
		}
	}},
	{name: "nothing is lost of what ends quickly", only: "dockershim", why: "on a busy machine containerd 1.6 loses lines of it", run: func(t *testing.T, r *runtime) {
		p := r.pod("seq 1 20000")
		r.exited(p.ctr)
		path := filepath.Join(p.sandbox.LogDirectory, "c/0.log")
		lines := r.lines(path)
		for i, l := range lines {
			if l != fmt.Sprint(i+1) {
				t.Fatalf("line %d is %q", i+1, l)
			}
		}
		if len(lines) != 20000 {
			t.Errorf("%d lines", len(lines))
		}
	}},
	{name: "the log is reopened after rotation", run: func(t *testing.T, r *runtime) {
		p := r.pod("i=0; while :; do i=$((i+1)); echo $i; usleep 2000; done")
		path := filepath.Join(p.sandbox.LogDirectory, "c/0.log")
		harness.Eventually(t, "something is logged", harness.Patience, func() error {
			if info, err := os.Stat(path); err != nil || info.Size() == 0 {
				return fmt.Errorf("nothing yet, %v", err)
			}
			return nil
		})
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReopenContainerLog(t.Context(), &cri.ReopenContainerLogRequest{ContainerId: p.ctr}); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "the new file is written", harness.Patience, func() error {
			if info, err := os.Stat(path); err != nil || info.Size() == 0 {
				return fmt.Errorf("nothing yet, %v", err)
			}
			return nil
		})
		if _, err := r.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: p.ctr, Timeout: 0}); err != nil {
			t.Fatal(err)
		}
		r.exited(p.ctr)
		for i, l := range append(r.lines(path+".1"), r.lines(path)...) {
			if l != fmt.Sprint(i+1) {
				t.Fatalf("line %d is %q", i+1, l)
			}
		}
		_, err := r.ReopenContainerLog(t.Context(), &cri.ReopenContainerLogRequest{ContainerId: p.ctr})
		if err == nil {
			t.Error("the log of a container that has ended was reopened")
		}
		if r.isDockershim() {
			wantCode(t, "reopen", err, codes.FailedPrecondition)
		}
	}},
	{name: "a terminal's output is logged as stdout", run: func(t *testing.T, r *runtime) {
		p := r.pod("echo out; echo err >&2", func(c *cri.ContainerConfig) { c.Tty = true })
		st := r.exited(p.ctr)
		for _, l := range r.log(st.LogPath) {
			if l.stream != "stdout" {
				t.Errorf("line %+v", l)
			}
		}
	}},
	{name: "logs outlive a kill of the runtime", only: "dockershim", why: "containerd's containers lose their log pipes with it", run: func(t *testing.T, r *runtime) {
		own := &runtime{harness.StartShim(t, r.Docker), t}
		p := own.pod("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; usleep 500; done")
		for range 3 {
			own.Restart(t)
		}
		st := own.exited(p.ctr)
		lines := own.log(st.LogPath)
		for i, l := range lines {
			if l.text != fmt.Sprint(i+1) {
				t.Fatalf("line %d is %q", i+1, l.text)
			}
		}
		if len(lines) != 3000 {
			t.Errorf("%d lines of 3000", len(lines))
		}
	}},
}
