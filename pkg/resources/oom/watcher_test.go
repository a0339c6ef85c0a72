package oom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

var view = []*actual.Pod{
	{UID: "1f3c8a52-9b1e-4c7d-8f63-0a6d1f2b3c4d", Namespace: "default", Name: "web", Containers: []actual.Container{{ID: "9f0d", Name: "app"}}},
	{UID: "2", Namespace: "other", Name: "db", Containers: []actual.Container{{ID: "77aa", Name: "mysql"}}},
}

func TestTheVictimsPodIsFound(t *testing.T) {
	for cgroup, want := range map[string]string{
		podCgroup: "default/web app",
		"/kubepods/burstable/pod1f3c8a52-9b1e-4c7d-8f63-0a6d1f2b3c4d/gone":                                                            "default/web ",
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1f3c8a52_9b1e_4c7d_8f63_0a6d1f2b3c4d.slice/docker-9f0d.scope": "default/web app",
		"/docker/77aa":                  "other/db mysql",
		"/docker/77aa/pod2/9f0d":        "other/db mysql", // made by the container
		"/kubepods/pod2/sub/9f0d":       "other/db ",
		"/system.slice/docker.service":  "/ ",
		"/user.slice/pod3":              "/ ",
		"":                              "/ ",
		"/docker/177aa":                 "/ ",
		"/kubepods/pod22":               "/ ",
		"/kubepods.slice/x-pod22.slice": "/ ",
	} {
		name, _, container := owner(cgroup, view)
		if name == "" {
			name = "/"
		}
		if got := name + " " + container; got != want {
			t.Errorf("%s is of %q, want %q", cgroup, got, want)
		}
	}
}

// script gives away one record a read, as the kernel does.
type script struct {
	records []string
	end     chan struct{}
	err     error
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.records) == 0 {
		if s.err == nil {
			<-s.end
		}
		return 0, errors.Join(io.EOF, s.err)
	}
	r := s.records[0]
	s.records = s.records[1:]
	if r == "lost" {
		return 0, &os.PathError{Op: "read", Path: kernelLog, Err: unix.EPIPE}
	}
	return copy(p, r), nil
}

func (s *script) Close() error { close(s.end); return nil }

func TestSystemOOMIsAnEventOfTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &script{end: make(chan struct{}), records: []string{
			"lost", invoked, global, "lost", strings.ReplaceAll(ofCgroup, "4242", "4243"),
			`6,11,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=\x1b[2J,pid=7,uid=0`,
		}}
		var events []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		w := New(Config{
			Pods:  func() []*actual.Pod { return view },
			Event: func(kind, reason, message string) { events = append(events, kind+" "+reason+" "+message) },
			Open:  func() (io.ReadCloser, error) { return log, nil },
		})
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		want := []string{
			"Warning SystemOOM System OOM encountered, victim process: stress, pid: 4242, pod: default/web, container: app",
			`Warning SystemOOM System OOM encountered, victim process: \u001b[2J, pid: 7`,
		}
		if !slices.Equal(events, want) {
			t.Errorf("events %q, want %q", events, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTheAgentGoesOnWithoutTheKernelsLog(t *testing.T) {
	for name, open := range map[string]func() (io.ReadCloser, error){
		"that cannot be opened": func() (io.ReadCloser, error) { return nil, unix.EPERM },
		"that cannot be read":   func() (io.ReadCloser, error) { return &script{end: make(chan struct{}), err: unix.EIO}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- New(Config{Open: open}).Run(ctx) }()
				synctest.Wait()
				select {
				case err := <-done:
					t.Fatalf("it ended: %v", err)
				default:
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestOnlyTheKernelsLogIsRead(t *testing.T) {
	for _, path := range []string{"/dev/null", filepath.Join(t.TempDir(), "file")} {
		f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if atEnd(f) == nil {
			t.Errorf("%s is taken for the kernel's log", path)
		}
	}
}

// The kernel's own words, of a process that this test has it kill; and words that are not the kernel's.
func TestARealKillIsReadFromTheKernelsLog(t *testing.T) {
	log, err := openKernelLog()
	if err != nil {
		t.Skipf("the kernel's log cannot be read: %v", err)
	}
	defer log.Close()
	forged := fmt.Sprintf("oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=forged,pid=%d,uid=0", os.Getpid())
	if err := os.WriteFile(kernelLog, []byte("<6>"+forged+"\n"), 0); err != nil {
		t.Logf("nothing can be forged here: %v", err)
	}
	cgroup := limitedCgroup(t, 16<<20)
	// tail keeps the last line: all of it.
	cmd := exec.Command("sh", "-c", `echo $$ > "$0/cgroup.procs" && exec tail /dev/zero`, cgroup)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	giveUp := time.AfterFunc(time.Minute, func() { cmd.Process.Kill(); log.Close() })
	defer giveUp.Stop()
	defer cmd.Wait()
	buffer := make([]byte, maxRecord)
	var p parser
	for {
		n, err := log.Read(buffer)
		if err != nil && !errors.Is(err, unix.EPIPE) {
			t.Fatalf("the kernel did not say that it killed process %d: %v", pid, err)
		}
		text, ok := record(buffer[:n])
		if !ok {
			continue
		}
		k, ok := p.line(text)
		if k.Process == "forged" {
			t.Fatal("a record that a process wrote is believed")
		}
		if strings.Contains(text, fmt.Sprintf("Killed process %d ", pid)) && (!ok || k.Limit == "") {
			t.Skip("the kernel did not tell all: others were killed, or wrote to its log, at the same time")
		}
		if !ok || k.PID != pid {
			continue
		}
		if want := (Kill{PID: pid, Process: "tail", Limit: "/" + filepath.Base(cgroup), Victim: "/" + filepath.Base(cgroup)}); k != want {
			t.Errorf("got %+v of %q, want %+v", k, text, want)
		}
		return
	}
}

// limitedCgroup makes a cgroup with a limit of memory, and removes it when the test ends.
func limitedCgroup(t *testing.T, bytes int) string {
	t.Helper()
	root, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		root, file = "/sys/fs/cgroup", "memory.max"
	}
	dir, err := os.MkdirTemp(root, "mini-kubelet-test-oom-")
	if err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() {
		for range 100 { // until the kernel has let go of the process
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Errorf("could not remove %s", dir)
	})
	if err := os.WriteFile(filepath.Join(dir, file), []byte(fmt.Sprint(bytes)), 0); err != nil {
		t.Skipf("no limit can be set here: %v", err)
	}
	return dir
}
