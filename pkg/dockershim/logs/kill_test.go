package logs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets a test start an agent of its own: this binary, which runs a Manager
// until it is killed and does what lines on its stdin say.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOGS_TEST_STATE"); dir != "" {
		if err := agent(dir, os.Getenv("LOGS_TEST_DOCKER"), os.Getenv("LOGS_TEST_CRI")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	removeTestImage()
	os.Exit(code)
}

func agent(state, docker, cri string) error {
	m, err := New(Config{StateDir: state})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go m.Run(ctx)
	if err := m.Follow(ctx, "c1", docker, cri); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "reopen":
			err = m.Reopen("c1")
		case "finish":
			err = m.Finish(ctx, "c1")
		}
		fmt.Println(in.Text(), err)
	}
	return in.Err()
}

type agentProcess struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func startAgent(t *testing.T, state, docker, cri string) *agentProcess {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "LOGS_TEST_STATE="+state, "LOGS_TEST_DOCKER="+docker, "LOGS_TEST_CRI="+cri)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &agentProcess{cmd, in, bufio.NewScanner(out)}
}

func (a *agentProcess) kill() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// tell returns whether the agent lived to answer.
func (a *agentProcess) tell(t *testing.T, what string) bool {
	t.Helper()
	fmt.Fprintln(a.in, what)
	if !a.out.Scan() {
		return false
	}
	if a.out.Text() != what+" <nil>" {
		t.Fatalf("agent answers %q", a.out.Text())
	}
	return true
}

// An agent is killed at random moments while a container logs, Docker rotates and the
// CRI log is rotated: every line comes exactly once.
func TestKilledAgentLosesAndDoublesNothing(t *testing.T) {
	d := newDockerLog(t, 600<<10, 8)
	state := t.TempDir()
	cri := filepath.Join(t.TempDir(), "0.log")
	var want []string
	write := func(n int) {
		for range n {
			want = append(want, d.line(t, rand.IntN(300)))
		}
	}
	// On a busy machine the agents may do little before they are killed. Docker's log holds 4 MB.
	const most = 6000
	caughtUp := 0
	rotations := 0
	for range 40 {
		if len(want)-caughtUp > most {
			a := startAgent(t, state, d.path, cri)
			if !a.tell(t, "finish") {
				t.Fatal("an agent died by itself")
			}
			a.kill()
			caughtUp = len(want)
		}
		write(200)
		a := startAgent(t, state, d.path, cri)
		if !a.tell(t, "hello") {
			t.Fatal("agent did not start")
		}
		killed := make(chan struct{})
		go func() {
			time.Sleep(time.Duration(rand.IntN(25000)) * time.Microsecond)
			a.kill()
			close(killed)
		}()
	writing:
		for begun := len(want); ; {
			select {
			case <-killed:
				break writing
			default:
			}
			if len(want)-begun > most {
				<-killed
				break
			}
			write(20)
			if rand.IntN(40) == 0 {
				// When an agent died between the two, there is nothing to rename.
				if err := os.Rename(cri, fmt.Sprintf("%s.%d", cri, rotations+1)); err == nil {
					rotations++
				}
				a.tell(t, "reopen")
			}
		}
	}
	a := startAgent(t, state, d.path, cri)
	defer a.kill()
	if !a.tell(t, "reopen") || !a.tell(t, "finish") {
		t.Fatal("the last agent died")
	}
	got := texts(t, cri)
	for _, text := range got {
		if strings.Contains(text, "missing") {
			t.Fatalf("more was written (%d lines) than this test's retention holds", len(want))
		}
	}
	t.Logf("%d lines, %d rotations of the CRI log", len(want), rotations)
	sameLines(t, got, want)
}

// A copy is ended at each byte of its output in turn, as a kill within write(2) may.
func TestTornAtEveryByte(t *testing.T) {
	d := newDockerLog(t, 1500, 6)
	cri := filepath.Join(t.TempDir(), "0.log")
	state := t.TempDir()
	var want []string
	for i := range 40 {
		if i%7 == 6 {
			d.record(t, "partial ", time.Now())
			d.record(t, "line\n", time.Now())
			want = append(want, "partial line")
			continue
		}
		want = append(want, d.line(t, 5*i))
	}
	run := func() {
		t.Helper()
		f := &follower{id: "c1", dockerPath: d.path, criPath: cri, statePath: filepath.Join(state, "c1"), fresh: true}
		if err := f.begin(); err != nil {
			t.Fatal(err)
		}
		for more := true; more; {
			var err error
			if more, err = f.pump(); err != nil {
				t.Fatal(err)
			}
		}
	}
	run()
	whole, err := os.ReadFile(cri)
	if err != nil {
		t.Fatal(err)
	}
	sameLines(t, texts(t, cri), want)

	// The position that an agent saves before it writes its first line.
	files, err := openSources(d.path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(files)
	log, err := statPath(cri)
	if err != nil {
		t.Fatal(err)
	}
	start := position{Docker: files[len(files)-1].fileID, CRI: log.fileID, Log: d.path}
	for n := range len(whole) {
		if err := start.save(filepath.Join(state, "c1")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cri, whole[:n], 0o640); err != nil {
			t.Fatal(err)
		}
		run()
		if got, err := os.ReadFile(cri); err != nil || string(got) != string(whole) {
			t.Fatalf("torn at byte %d: %v, %d bytes, want %d", n, err, len(got), len(whole))
		}
	}
}
